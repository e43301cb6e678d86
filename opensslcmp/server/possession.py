"""Proofs of possession by decryption: for keys that sign nothing, or shall not.

Indirect: the certificate is encrypted to the new key, and the certHash of the certConf shows that it was opened. Direct: a number
that is encrypted to the new key comes back in the clear, before anything is issued. Of that number the store has a hash only.

With pvno 3 all that is encrypted is EnvelopedData, by key transport, key agreement or encapsulation, whatever the key is for.
With pvno 2 it is what RFC 4211 had, an EncryptedValue and the deprecated challenge, which only RSA keys open.

Source: RFC 9810, 5.2.8.3 and 5.3.4; RFC 4211, 4.2 and 4.3.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from cryptography import x509

from opensslcmp.asn1 import (
    NULL_DN,
    BitString,
    Challenge,
    EncryptedValue,
    ErrorMsgContent,
    Extension,
    PKIStatusInfo,
    Rand,
    admit,
    algorithm,
    decode,
    directory_name,
    elements,
    encode,
    encode_list,
    oids,
    tlv,
    wrap,
)
from opensslcmp.context.cms import Recipient, seal
from opensslcmp.context.encryption import cbc, encrypt_key, key_type
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage, Unsupported
from opensslcmp.server.delay import keep, kept
from opensslcmp.server.profile import key_usage
from opensslcmp.server.rules import ACCEPTED, Stage, Wish, by_decryption
from opensslcmp.server.store import TransactionState
from opensslcmp.server.turn import Answer, Turn

__all__ = ["challenge", "encrypted_pair", "key_usage_proven", "proven"]

_RANDOM_BYTES = 20
_KEY_USAGE = "2.5.29.15"
_KEY_USAGE_ID = x509.ObjectIdentifier(_KEY_USAGE)


def key_usage_proven(wish: Wish) -> tuple[Extension, ...]:
    """The extensions asked for, with the key usage of a key that was proved by decryption where none is asked for."""
    if not by_decryption(wish) or any(each.oid == _KEY_USAGE for each in wish.extensions):
        return wish.extensions
    usage = "keyEncipherment" if key_type(wish.public_key or b"") in {"RSA", "ML-KEM"} else "keyAgreement"
    asked = Extension(extn_id=_KEY_USAGE_ID, critical=True, extn_value=key_usage(usage))
    return (*wish.extensions, asked)


def _sealed(content: bytes, recipient: Recipient) -> bytes:
    try:
        return seal(content, recipient)
    except Unsupported as error:
        raise BadMessage(FailureInfo.BAD_POP, str(error)) from None
    except BadMessage as error:
        raise BadMessage(FailureInfo.BAD_POP, error.text) from None


def encrypted_pair(certificate: bytes, public_key: bytes, pvno: int) -> bytes:
    """CertifiedKeyPair (DER) with the certificate encrypted to its own key.

    Raises:
        BadMessage: badPOP, nothing can be encrypted to the key.

    Source: RFC 9810, 5.2.2 and 5.3.4; RFC 4211, 2.1.
    """
    if pvno >= 3:
        enveloped = _sealed(certificate, Recipient.of(certificate))
        return wrap(0x30, wrap(0xA1, b"\xa0" + enveloped[1:]))
    key, iv = os.urandom(32), os.urandom(16)
    value = EncryptedValue(
        symm_alg=algorithm(oids.AES256_CBC, encode(iv)),
        enc_symm_key=BitString(encrypt_key(public_key, key, oaep=None), 0),
        key_alg=algorithm(oids.RSA_ENCRYPTION, b"\x05\x00"),
        enc_value=BitString(cbc(True, key, iv, certificate), 0),
    )
    return wrap(0x30, wrap(0xA1, encode(value)))


def _encrypted_rand(wish: Wish, rand: bytes, pvno: int) -> Challenge:
    spki = wish.public_key or b""
    if pvno < 3:
        return Challenge(witness=b"", challenge=encrypt_key(spki, rand, oaep=None))
    # The only name that a key without a certificate has (RFC 9810, 5.2.8.3.3).
    sealed = _sealed(rand, Recipient(spki=spki, issuer=NULL_DN, serial_number=wish.request_id))
    return Challenge(witness=b"", challenge=b"", encrypted_rand=tlv(sealed))


def challenge(turn: Turn, wishes: Sequence[Wish]) -> Answer:
    """The popdecc: a challenge for each request that asks for one.

    Raises:
        BadMessage: badPOP, nothing can be encrypted to a key.
    """
    check = turn.check
    pvno = check.message.header.pvno
    challenges: list[Challenge] = []
    hashes: list[bytes] = []
    for wish in wishes:
        number = encode(int.from_bytes(os.urandom(_RANDOM_BYTES), "big"))
        rand = encode(Rand(integer=decode(int, number), sender=tlv(turn.sender)))
        if pvno < 3 and len(rand) > 190:  # what RSA with 2048 bits has room for
            rand = encode(Rand(integer=decode(int, number), sender=directory_name(NULL_DN)))
        made = _encrypted_rand(wish, rand, pvno)
        owf = algorithm(oids.SHA256) if not challenges else None
        challenges.append(replace(made, owf=owf, witness=hashlib.sha256(number).digest()))
        hashes.append(encode(hashlib.sha256(b"popdecr" + number).digest()))
    turn.state = TransactionState.CHALLENGED
    turn.deadline = turn.now + turn.confirm_wait_seconds
    turn.request = keep(check.message.der, check.outer)
    turn.pending = wrap(0x30, b"".join(hashes))
    return Answer(body_type=BodyType.POPDECC, body=encode_list(challenges))


def proven(turn: Turn, enroll: Callable[[Turn], Answer]) -> Answer:
    """Answer a popdecr: the request is handled as if it came just now, once possession is proved; a wrong answer ends it.

    Raises:
        BadMessage: badRequest, nothing was asked.
    """
    check = turn.check
    check.profile.check(Stage.PROVE, check)
    begun = check.begun
    if begun.state is not TransactionState.CHALLENGED or begun.request is None:  # whatever the profile says
        raise BadMessage(FailureInfo.BAD_REQUEST, "nothing was asked that this could answer")
    stored = begun.pending or b"\x30\x00"
    expected = [decode(bytes, stored[start:end]) for start, end in elements(stored)]
    given = [hashlib.sha256(b"popdecr" + encode(number)).digest() for number in check.message.content()]
    right = len(given) == len(expected) and all(map(hmac.compare_digest, given, expected))
    if not right:
        status = PKIStatusInfo.make(PKIStatus.REJECTION, "the challenge is not answered", failure=FailureInfo.BAD_POP)
        body = encode(ErrorMsgContent(pki_status_info=status))
        return Answer(body_type=BodyType.ERROR, body=body, statuses=(status,))
    request, outer = kept(begun.request)
    original = admit(request, limits=check.message.limits, accept=ACCEPTED)
    turn.proven = True
    turn.asked = replace(check, message=original, transaction=None, outer=outer)
    return enroll(turn)
