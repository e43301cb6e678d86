"""An escrow: keeps private keys, sealed, for who may lose them and needs them back to decrypt what is old.

What comes in a request (pkiArchiveOptions, encryptedPrivKey: EncKeyWithID in EnvelopedData for the escrow's certificate), and
what is made here for who asks to have it archived (archiveRemGenPrivKey), is sealed to the escrow's certificate again together
with the certificate's key and the credential that it was issued to, so that a row of the store put in another's place does not
open as that one's. It is committed with the certificate. Only the escrow's private key opens it, which may stay in a token.

Source: RFC 4211, 2.1 and 6.4; RFC 9810, 5.2.2 and 5.3.7.
"""

from __future__ import annotations

from opensslcmp.asn1 import EncKeyWithID, decode, elements, encode, oids, wrap
from opensslcmp.asn1.controls import ArchiveOptions
from opensslcmp.context.certificates import facts
from opensslcmp.context.cms import PasswordRecipient, Recipient, open_enveloped, seal
from opensslcmp.context.encryption import same_public_key
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import Verified
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage, OpenSSLError, Rejected
from opensslcmp.server.key_generation import KeyGenerator
from opensslcmp.server.store import ArchivedKey, CertificateRecord

__all__ = ["Escrow"]


class Escrow:
    """Archives private keys, and gives them back. May be used by several threads at once.

    Args:
        certificate: DER, to whose key everything is sealed.
        key: its private key.
        packager: signs and seals what is given back, as it does keys that it makes.
        always: archive each key that is made here, and not only where that is asked for.

    Raises:
        ValueError: the key is not the certificate's.
    """

    def __init__(self, certificate: bytes, key: PrivateKey, packager: KeyGenerator, *, always: bool = False) -> None:
        if facts(certificate).spki != key.public_key_der:
            raise ValueError("the key is not that of the certificate")
        self.certificate = certificate
        self._key = key
        self._packager = packager
        self._always = always
        self._recipient = Recipient.of(certificate)

    def sent(self, options: ArchiveOptions | None, spki: bytes) -> bytes | None:
        """PKCS #8 of the key that a request brings to be archived, or None.

        Args:
            spki: of the certificate that is asked for.

        Raises:
            Rejected: badPOP, it does not open, or is of another pair.
        """
        if options is None or options.enveloped is None:
            return None
        try:
            content = open_enveloped(options.enveloped, self._key, content_type=oids.CT_ENC_KEY_WITH_ID)
            pkcs8 = encode(decode(EncKeyWithID, content).private_key)
            if same_public_key(PrivateKey.load(pkcs8, library=self._key.library), spki):
                return pkcs8
        except (BadMessage, OpenSSLError, ValueError):
            pass  # with the same words, whatever it was
        raise Rejected(FailureInfo.BAD_POP, "the key to archive does not open, or is not that of the request")

    def wants(self, options: ArchiveOptions | None) -> bool:
        """Whether a key that is made here is archived."""
        return self._always or (options is not None and options.generated is True)

    def archive(self, record: CertificateRecord, pkcs8: bytes) -> ArchivedKey:
        """The key of this certificate, as it is kept."""
        content = wrap(0x30, encode(record.key) + encode(record.identity) + encode(pkcs8))
        sealed = seal(content, self._recipient, library=self._key.library)
        return ArchivedKey(key=record.key, identity=record.identity, sealed=sealed)

    def recipient(self, verified: Verified, secret: bytes | None) -> Recipient | PasswordRecipient | None:
        """To whom a key is given back; None when this credential cannot receive any."""
        return self._packager.recipient(verified, secret)

    def give(self, archived: ArchivedKey, record: CertificateRecord, recipient: Recipient | PasswordRecipient) -> bytes:
        """CertifiedKeyPair (DER) with the key sealed for who asks.

        Raises:
            BadMessage, OpenSSLError, ValueError: what is in the store is not what was put there.
        """
        content = open_enveloped(archived.sealed, self._key, content_type=oids.CT_DATA)
        key, identity, pkcs8 = (decode(bytes, content[start:end]) for start, end in elements(content))
        spki = facts(record.certificate).spki
        if (key, identity) != (record.key, record.identity):
            raise ValueError("an archived key of another certificate")
        if not same_public_key(PrivateKey.load(pkcs8, library=self._key.library), spki):
            raise ValueError("an archived key that is not its certificate's")
        return wrap(0x30, wrap(0xA0, record.certificate) + self._packager.package(pkcs8, spki, recipient))
