"""A key generation authority: makes the key pair of who asks for one, and hands the private key over sealed.

What leaves is EnvelopedData for the requester's credential, in it SignedData by a certificate with id-kp-cmKGA, in it an
AsymmetricKeyPackage with the one key. The key itself is kept nowhere: a retransmission gets the stored response, which only
the requester opens. While a request waits for an approval its key waits in the transaction, sealed by the ``Sealer``.

How the requester's credential receives a key (RFC 9483, 4.1.6): an RSA certificate by key transport, where its keyUsage allows
keyEncipherment; one for EC, X25519 or X448 by key agreement, where it allows keyAgreement; ML-KEM by encapsulation; a shared
secret by PBKDF2. Any other receives none.

Source: RFC 9483, 4.1.6; RFC 9810, 5.2.2 and 5.3.4; RFC 5958.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from opensslcmp.asn1 import SubjectPublicKeyInfo, cms, decode, der, elements, encode, oids, wrap
from opensslcmp.context.certificates import facts
from opensslcmp.context.cms import Originator, PasswordRecipient, Recipient, may_agree, may_encipher, seal, sign_data
from opensslcmp.context.encryption import key_type
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import Verified
from opensslcmp.errors import OpenSSLError
from opensslcmp.server.authority import Issued, Pending
from opensslcmp.server.profile import KEY_ALGORITHMS
from opensslcmp.server.secret_book import Sealer

__all__ = ["KINDS", "KeyGenerator", "type_of"]

_WAITS = b"key of a request that waits"


KINDS = ("ec:P-256", "ec:P-384", "rsa:3072", "ed25519")
"""Keys that are made where nothing else is said, the first for who does not say which."""


def type_of(kind: str) -> str:
    """The type of a kind of key, as issuing profiles name it: that of RSA without its size."""
    return "rsa" if kind.startswith("rsa:") else kind


class KeyGenerator:
    """Makes keys for who asks for one, and seals them. May be used by several threads at once.

    Args:
        certificate: DER, with id-kp-cmKGA; or that of a CA.
        key: its private key, which signs what is sent.
        chain: DER of the certificates above it.
        sealer: keeps the keys of requests that wait.
        kinds, rsa, key_wrap: as in ``settings.KeyGenerationSettings``.
        originator: the server's own key for key agreement, used where it fits the requester's (RFC 9483, 4.1.6.2).

    Raises:
        ValueError: the certificate is not for this.
    """

    def __init__(
        self,
        certificate: bytes,
        key: PrivateKey,
        sealer: Sealer,
        *,
        chain: Sequence[bytes] = (),
        kinds: Iterable[str] = KINDS,
        rsa: Literal["oaep", "pkcs1", "kem"] = "oaep",
        key_wrap: Literal["aes", "pwri-kek"] = "aes",
        originator: Originator | None = None,
    ) -> None:
        about = facts(certificate)
        if about.spki != key.public_key_der:
            raise ValueError("the key is not that of the certificate")
        if oids.KP_CM_KGA not in about.extended_key_usage and not (about.key_usage or 0) >> 8 & 0x04:
            raise ValueError("the certificate of a key generation authority needs id-kp-cmKGA")
        self.certificate = certificate
        self._key = key
        self._chain = tuple(chain)
        self._sealer = sealer
        self._kinds = tuple(kinds)
        self._rsa: Literal["oaep", "pkcs1", "kem"] = rsa
        self._key_wrap: Literal["aes", "pwri-kek"] = key_wrap
        self._originator = originator

    def kind_for(self, asked: SubjectPublicKeyInfo | None) -> str | None:
        """The kind of key to make for a template, whose key is empty or absent; None: no such kind is made."""
        if asked is None:
            return self._kinds[0]
        for kind in self._kinds:
            if asked.algorithm.oid == oids.RSA_ENCRYPTION:
                if kind.startswith("rsa:"):
                    return kind
            elif der(asked.algorithm) == KEY_ALGORITHMS[type_of(kind)]:
                return kind
        return None

    def recipient(self, verified: Verified, secret: bytes | None) -> Recipient | PasswordRecipient | None:
        """To whom a key is sealed for this credential; None when it cannot receive any."""
        if verified.certificate is None:
            return None if secret is None else PasswordRecipient(secret=secret, key_wrap=self._key_wrap)
        about = facts(verified.certificate)
        try:
            kind = key_type(about.spki)
        except ValueError:
            return None
        allowed = may_encipher(about) if kind in {"RSA", "ML-KEM"} else bool(kind) and may_agree(about)
        return Recipient.of(verified.certificate, self._rsa) if allowed else None

    def make(self, kind: str, pending: bytes | None) -> tuple[PrivateKey, bytes | None]:
        """A new key, or the one that ``deliver`` put aside; and what the authority said when it put the request off."""
        if pending is None or not pending.startswith(b"\x30"):
            return PrivateKey.generate(kind, library=self._key.library), pending
        sealed, reference = _Waiting.read(pending)
        return PrivateKey.load(self._sealer.decrypt(_WAITS, sealed), library=self._key.library), reference

    def deliver(
        self, outcome: Issued | Pending, key: PrivateKey, recipient: Recipient | PasswordRecipient
    ) -> Issued | Pending:
        """The outcome with the private key in it: sealed for the requester, or put aside.

        Raises:
            OpenSSLError: the key does not leave its provider.
        """
        pkcs8 = key.to_pkcs8()
        if isinstance(outcome, Pending):
            return replace(outcome, reference=_Waiting.write(self._sealer.encrypt(_WAITS, pkcs8), outcome.reference))
        return replace(outcome, private_key=self.package(pkcs8, key.public_key_der, recipient))

    def package(self, pkcs8: bytes, spki: bytes, recipient: Recipient | PasswordRecipient) -> bytes:
        """The field privateKey of a CertifiedKeyPair (DER): [0] EncryptedKey.

        Raises:
            OpenSSLError: a key that does not decode.
        """
        try:
            package = cms.key_package([cms.OneAsymmetricKey.make(pkcs8, spki)])
        except ValueError as error:
            raise OpenSSLError((), f"a private key that does not decode: {error}") from None
        signed = sign_data(oids.CT_KP_A_KEY_PACKAGE, package, self._key, self.certificate, self._chain)
        enveloped = seal(
            signed,
            recipient,
            content_type=oids.CT_SIGNED_DATA,
            originator=self._originator,
            library=self._key.library,
        )
        return wrap(0xA0, b"\xa0" + enveloped[1:])


class _Waiting:
    """SEQUENCE of the sealed key and the authority's own reference."""

    @staticmethod
    def write(sealed: bytes, reference: bytes) -> bytes:
        return wrap(0x30, encode(sealed) + encode(reference))

    @staticmethod
    def read(data: bytes) -> tuple[bytes, bytes]:
        (a, b), (c, d) = elements(data)
        return decode(bytes, data[a:b]), decode(bytes, data[c:d])
