"""Proofs of possession by decryption, at the client: which proof fits a key, a challenge answered, a certificate opened.

Source: RFC 9810, 5.2.8.3 and 5.3.4; RFC 4211, 4.2 and 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from opensslcmp.asn1 import (
    CertResponse,
    Challenge,
    EncryptedValue,
    PKIHeader,
    Rand,
    bits,
    decode,
    der,
    encode,
    encrypted_value,
    enveloped_data,
    oids,
)
from opensslcmp.context.cms import open_enveloped
from opensslcmp.context.encryption import DOES_NOT_OPEN, cbc, decrypt_key
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.library import digest
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage

__all__ = ["Proof", "answer_challenges", "open_certificate", "proof_for"]

Proof: TypeAlias = Literal["signature", "indirect", "challenge", "raVerified", "keyEnc", "none"]
"""A proof of possession; ``keyEnc`` is ``indirect`` with pvno 2, for RSA keys, as OpenSSL's own client does it."""

_ONE_WAY = {oids.SHA1: "SHA1", oids.SHA256: "SHA256", oids.SHA384: "SHA384", oids.SHA512: "SHA512"}
_AES_CBC = {oids.AES128_CBC: 16, oids.AES192_CBC: 24, oids.AES256_CBC: 32}


def proof_for(key: PrivateKey, chosen: Proof | None, usual: str) -> str:
    """The proof for a key: the one chosen, or the usual one; a key that does not sign gives ``indirect`` for a signature.

    Raises:
        ValueError: no such proof.
    """
    if chosen is None:
        return usual if usual != "signature" or key.signs else "indirect"
    if chosen not in get_args(Proof):
        raise ValueError(f"no such proof of possession: {chosen}")
    return chosen


def answer_challenges(challenges: Sequence[Challenge], header: PKIHeader, key: PrivateKey) -> list[int]:
    """The numbers that a popdecc encrypts to our key.

    Args:
        header: of the popdecc, whose sender each challenge names.

    Raises:
        BadMessage: badDataFormat, badAlg, badMessageCheck: not one challenge, or none that we can open.

    Source: RFC 9810, 5.2.8.3.3.
    """
    if len(challenges) != 1:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"{len(challenges)} challenges for one request")
    (challenge,) = challenges
    name = _ONE_WAY.get(challenge.owf.oid) if challenge.owf is not None else None
    if name is None:
        raise BadMessage(FailureInfo.BAD_ALG, "a challenge whose one-way function is not supported")
    if challenge.encrypted_rand is None:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a challenge without encryptedRand, which pvno 3 has")
    try:
        rand = decode(Rand, open_enveloped(der(challenge.encrypted_rand), key))
    except ValueError:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a challenge that does not decode") from None
    if der(rand.sender) != der(header.sender):
        raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, "the challenge is from somebody else than the message")
    if digest(name, encode(rand.integer), key.library) != challenge.witness:
        raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, "the challenge does not fit its witness")
    return [rand.integer]


def open_certificate(response: CertResponse, key: PrivateKey) -> bytes:
    """The certificate that is encrypted to our key.

    Raises:
        BadMessage: badDataFormat, badAlg, badMessageCheck: there is none, or it does not open.

    Source: RFC 9810, 5.2.8.3.2 and 5.3.4.
    """
    pair = response.certified_key_pair
    if pair is None:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the answer holds no certificate")
    encrypted = pair.cert_or_enc_cert.value
    enveloped = enveloped_data(encrypted)
    if enveloped is not None:
        return open_enveloped(enveloped, key)
    try:
        value = encrypted_value(encrypted)
    except ValueError:
        value = None
    if value is None:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "an encrypted certificate that does not decode")
    return _open_value(value, key)


def _open_value(value: EncryptedValue, key: PrivateKey) -> bytes:
    """EncryptedValue (RFC 4211, 2.1): AES-CBC under a key that is encrypted by RSA."""
    size = None if value.symm_alg is None else _AES_CBC.get(value.symm_alg.oid)
    if value.symm_alg is None or size is None or value.enc_symm_key is None:
        raise BadMessage(FailureInfo.BAD_ALG, "a certificate encrypted in a way that is not supported")
    try:
        iv = decode(bytes, value.symm_alg.parameters_der or b"")
        encrypted = bits(value.enc_value)
        content_key = decrypt_key(key, bits(value.enc_symm_key), size, oaep=None)
        if len(encrypted) % 16 or not encrypted:
            raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, DOES_NOT_OPEN)
        return cbc(False, content_key, iv, encrypted, library=key.library)
    except ValueError:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "an encrypted certificate that does not decode") from None
