"""CMS as CMP uses it: EnvelopedData and SignedData (RFC 5652), KEMRecipientInfo (RFC 9629), AsymmetricKeyPackage (RFC 5958).

A SET, and what is optional before a TLV, have no type in ``cryptography.hazmat.asn1``: ``EnvelopedData``, ``SignedData`` and
``SignerInfo`` are taken apart and put together here, element by element, and everything inside them is a structure. Only
what RFC 9810, 5.2.2 and RFC 9483, 4.1.6 allow is read: one recipient, DER, content that is there.

Nothing here computes: ``opensslcmp.context.cms`` seals, opens, signs and verifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cryptography import x509
from cryptography.hazmat.asn1 import Explicit, Implicit

from opensslcmp.asn1 import oids
from opensslcmp.asn1.common import (
    TLV,
    AlgorithmIdentifier,
    AnyValue,
    Attribute,
    BitString,
    SubjectPublicKeyInfo,
    count,
    decode,
    der,
    elements,
    encode,
    structure,
    tlv,
    unwrap,
    wrap,
)

__all__ = [
    "EccCmsSharedInfo",
    "EncryptedContentInfo",
    "EnvelopedData",
    "IssuerAndSerialNumber",
    "KEMRecipientInfo",
    "KeyAgreeRecipientInfo",
    "KeyTransRecipientInfo",
    "OneAsymmetricKey",
    "OriginatorPublicKey",
    "PasswordRecipientInfo",
    "RecipientEncryptedKey",
    "SignedData",
    "SignerInfo",
    "issuer_and_serial",
    "kem_other_info",
    "key_identifier",
    "key_package",
    "packaged_keys",
    "signed_attributes",
]

_MAX_ELEMENTS = 512
"""Of one structure, its certificates not looked into: CMP's have some dozens."""


@structure
class IssuerAndSerialNumber:
    """IssuerAndSerialNumber (RFC 5652, 10.2.4); ``issuer`` is a Name as it stands."""

    issuer: TLV
    serial_number: int


def issuer_and_serial(issuer: bytes, serial_number: int) -> bytes:
    """An identifier (DER) from the issuer's Name and a serial number."""
    return encode(IssuerAndSerialNumber(issuer=tlv(issuer), serial_number=serial_number))


def key_identifier(key_id: bytes) -> bytes:
    """An identifier (DER) from a subjectKeyIdentifier: [0] IMPLICIT, of a recipient, an originator or a signer."""
    return wrap(0x80, key_id)


# -- recipients ----------------------------------------------------------------------------------------------------


@structure
class KeyTransRecipientInfo:
    """KeyTransRecipientInfo (RFC 5652, 6.2.1)."""

    version: int
    rid: TLV
    key_encryption_algorithm: AlgorithmIdentifier
    encrypted_key: bytes


@structure
class OriginatorPublicKey:
    """OriginatorPublicKey (RFC 5652, 6.2.2)."""

    algorithm: AlgorithmIdentifier
    public_key: BitString


@structure
class RecipientEncryptedKey:
    """RecipientEncryptedKey; ``rid`` is an IssuerAndSerialNumber or [0] RecipientKeyIdentifier, as it stands."""

    rid: TLV
    encrypted_key: bytes


@structure
class KeyAgreeRecipientInfo:
    """KeyAgreeRecipientInfo (RFC 5652, 6.2.2); ``originator`` is an identifier or [1] OriginatorPublicKey, as it stands."""

    version: int
    originator: Annotated[TLV, Explicit(0)]
    ukm: Annotated[bytes | None, Explicit(1)] = None
    key_encryption_algorithm: AlgorithmIdentifier
    recipient_encrypted_keys: list[RecipientEncryptedKey]

    @property
    def originator_key(self) -> OriginatorPublicKey | None:
        """The originator's key when it stands there itself.

        Raises:
            ValueError: it does not decode.
        """
        if self.originator.tag_bytes != b"\xa1":
            return None
        return decode(OriginatorPublicKey, wrap(0x30, bytes(self.originator.data)))


@structure
class PasswordRecipientInfo:
    """PasswordRecipientInfo (RFC 5652, 6.2.4)."""

    version: int
    key_derivation_algorithm: Annotated[AlgorithmIdentifier | None, Implicit(0)] = None
    key_encryption_algorithm: AlgorithmIdentifier
    encrypted_key: bytes


@structure
class _OtherRecipientInfo:
    ori_type: x509.ObjectIdentifier
    ori_value: TLV


@structure
class KEMRecipientInfo:
    """KEMRecipientInfo (RFC 9629, 3)."""

    version: int
    rid: TLV
    kem: AlgorithmIdentifier
    kemct: bytes
    kdf: AlgorithmIdentifier
    kek_length: int
    ukm: Annotated[bytes | None, Explicit(0)] = None
    wrap: AlgorithmIdentifier
    encrypted_key: bytes


@structure
class _KEMOtherInfo:
    wrap: AlgorithmIdentifier
    kek_length: int
    ukm: Annotated[bytes | None, Explicit(0)] = None


def kem_other_info(info: KEMRecipientInfo) -> bytes:
    """CMSORIforKEMOtherInfo (RFC 9629, 5), what the key derivation is bound to."""
    return encode(_KEMOtherInfo(wrap=info.wrap, kek_length=info.kek_length, ukm=info.ukm))


@structure
class EccCmsSharedInfo:
    """ECC-CMS-SharedInfo (RFC 5753, 7.2); ``supp_pub_info``: the bits of the key, in four octets."""

    key_info: AlgorithmIdentifier
    entity_u_info: Annotated[bytes | None, Explicit(0)] = None
    supp_pub_info: Annotated[bytes, Explicit(2)]


Recipient = KeyTransRecipientInfo | KeyAgreeRecipientInfo | PasswordRecipientInfo | KEMRecipientInfo
_TAGS: dict[type[Any], int] = {KeyTransRecipientInfo: 0x30, KeyAgreeRecipientInfo: 0xA1, PasswordRecipientInfo: 0xA3}


def _recipient_der(info: Recipient) -> bytes:
    if isinstance(info, KEMRecipientInfo):
        other = _OtherRecipientInfo(ori_type=x509.ObjectIdentifier(oids.ORI_KEM), ori_value=tlv(encode(info)))
        return b"\xa4" + encode(other)[1:]
    return bytes((_TAGS[type(info)],)) + encode(info)[1:]


def _recipient(data: bytes) -> Recipient:
    body = b"\x30" + data[1:]
    if data[0] == 0xA4:
        other = decode(_OtherRecipientInfo, body)
        if other.ori_type.dotted_string == oids.ORI_KEM:
            return decode(KEMRecipientInfo, der(other.ori_value))
    for cls, tag in _TAGS.items():
        if data[0] == tag:
            result: Recipient = decode(cls, body)
            return result
    raise ValueError("a kind of recipient that CMP does not use")


# -- EnvelopedData -------------------------------------------------------------------------------------------------


@structure
class EncryptedContentInfo:
    """EncryptedContentInfo (RFC 5652, 6.1)."""

    content_type: x509.ObjectIdentifier
    content_encryption_algorithm: AlgorithmIdentifier
    encrypted_content: Annotated[bytes | None, Implicit(0)] = None


def _version(info: Recipient) -> int:
    """RFC 5652, 6.1: 3 with a password or another kind, 0 when everything is of version 0, else 2."""
    if isinstance(info, PasswordRecipientInfo | KEMRecipientInfo):
        return 3
    return 2 if info.version else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvelopedData:
    """EnvelopedData (RFC 5652, 6.1) with its only recipient."""

    recipient: Recipient
    content: EncryptedContentInfo

    def to_der(self) -> bytes:
        """DER, as a SEQUENCE."""
        version = _version(self.recipient)
        parts = (encode(version), wrap(0x31, _recipient_der(self.recipient)), encode(self.content))
        return wrap(0x30, b"".join(parts))

    @classmethod
    def from_der(cls, data: bytes) -> EnvelopedData:
        """From a SEQUENCE in DER.

        Raises:
            ValueError: it is none, or has another number of recipients than one, or no content.
        """
        parts = _parts(data)
        decode(int, parts.pop(0))
        if parts[0][0] == 0xA0:  # originatorInfo: certificates that nobody needs here
            del parts[0]
        if len(parts) not in {2, 3} or parts[0][0] != 0x31 or (len(parts) == 3 and parts[2][0] != 0xA1):
            raise ValueError("not EnvelopedData")
        recipients = _members(parts[0], 0x31)
        if len(recipients) != 1:
            raise ValueError("not exactly one recipient")
        content = decode(EncryptedContentInfo, parts[1])
        if content.encrypted_content is None:
            raise ValueError("no content in EnvelopedData")
        return cls(recipient=_recipient(recipients[0]), content=content)


def _members(data: bytes, tag: int = 0x30) -> list[bytes]:
    return [data[start:end] for start, end in elements(data, tag)]


def _parts(data: bytes) -> list[bytes]:
    """The elements of a SEQUENCE, of which there are a few, counted with all that they hold before anything is built."""
    if count(data, _MAX_ELEMENTS, 2) > _MAX_ELEMENTS:
        raise ValueError("too many elements")
    parts = _members(data)
    if len(parts) < 3:
        raise ValueError("elements are missing")
    return parts


# -- SignedData ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerInfo:
    """SignerInfo (RFC 5652, 5.3).

    Attributes:
        sid: IssuerAndSerialNumber, or [0] subjectKeyIdentifier, DER.
        attributes: the signed ones.
        signed: DER of what the signature covers: the signed attributes as a SET.
    """

    sid: bytes
    digest_algorithm: AlgorithmIdentifier
    attributes: tuple[Attribute, ...]
    signed: bytes
    signature_algorithm: AlgorithmIdentifier
    signature: bytes

    def attribute(self, oid: str) -> bytes | None:
        """The only value (DER) of the only attribute of this type; None when there is none.

        Raises:
            ValueError: there are several.
        """
        found = [each for each in self.attributes if each.oid == oid]
        if not found:
            return None
        values = _members(der(found[0].values), 0x31)
        if len(found) > 1 or len(values) != 1:
            raise ValueError("a signed attribute more than once")
        return values[0]

    def to_der(self) -> bytes:
        """DER."""
        parts = (
            encode(1 if self.sid[0] == 0x30 else 3),
            self.sid,
            encode(self.digest_algorithm),
            b"\xa0" + self.signed[1:],
            encode(self.signature_algorithm),
            encode(self.signature),
        )
        return wrap(0x30, b"".join(parts))

    @classmethod
    def from_der(cls, data: bytes) -> SignerInfo:
        """From DER.

        Raises:
            ValueError: it is none, or has no signed attributes.
        """
        parts = _parts(data)
        if parts[-1][0] == 0xA1:  # unsigned attributes
            parts.pop()
        if len(parts) != 6 or parts[1][0] not in {0x30, 0x80} or parts[3][0] != 0xA0:
            raise ValueError("not a SignerInfo with signed attributes")
        decode(int, parts[0])
        # The signature is over the DER of a SET OF, whose members are sorted (RFC 5652, 5.4).
        signed = b"\x31" + parts[3][1:]
        members = _members(signed, 0x31)
        if members != sorted(members):
            raise ValueError("signed attributes that are not DER")
        return cls(
            sid=parts[1],
            digest_algorithm=decode(AlgorithmIdentifier, parts[2]),
            attributes=tuple(decode(Attribute, each) for each in members),
            signed=signed,
            signature_algorithm=decode(AlgorithmIdentifier, parts[4]),
            signature=decode(bytes, parts[5]),
        )


def signed_attributes(content_type: str, digest: bytes) -> bytes:
    """DER of the SET that is signed: contentType and messageDigest (RFC 5652, 11; RFC 9483, 4.1.6)."""
    pairs = ((oids.CONTENT_TYPE, encode(x509.ObjectIdentifier(content_type))), (oids.MESSAGE_DIGEST, encode(digest)))
    attributes = [encode(Attribute(type=x509.ObjectIdentifier(oid), values=tlv(wrap(0x31, v)))) for oid, v in pairs]
    return wrap(0x31, b"".join(sorted(attributes)))


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedData:
    """SignedData (RFC 5652, 5.1) with its content and its only signer. ``certificates`` are DER."""

    content_type: str
    content: bytes
    certificates: tuple[bytes, ...]
    signer: SignerInfo

    def to_der(self) -> bytes:
        """DER, as a SEQUENCE."""
        inner = encode(x509.ObjectIdentifier(self.content_type)) + wrap(0xA0, encode(self.content))
        version = 1 if self.content_type == oids.CT_DATA and self.signer.sid[0] == 0x30 else 3
        parts = (
            encode(version),
            wrap(0x31, encode(self.signer.digest_algorithm)),
            wrap(0x30, inner),
            wrap(0xA0, b"".join(sorted(self.certificates))) if self.certificates else b"",
            wrap(0x31, self.signer.to_der()),
        )
        return wrap(0x30, b"".join(parts))

    @classmethod
    def from_der(cls, data: bytes) -> SignedData:
        """From a SEQUENCE in DER.

        Raises:
            ValueError: it is none, or has another number of signers than one, or no content.
        """
        parts = _parts(data)
        certificates: list[bytes] = []
        if len(parts) > 4 and parts[3][0] == 0xA0:
            certificates = _members(parts.pop(3), 0xA0)
        if len(parts) > 4 and parts[3][0] == 0xA1:  # CRLs, which a Trust is given elsewhere
            del parts[3]
        if len(parts) != 4 or parts[1][0] != 0x31 or parts[3][0] != 0x31:
            raise ValueError("not SignedData")
        decode(int, parts[0])
        inner = _members(parts[2])
        signers = _members(parts[3], 0x31)
        if len(inner) != 2 or inner[1][0] != 0xA0 or len(signers) != 1:
            raise ValueError("not exactly one content and one signer")
        return cls(
            content_type=decode(x509.ObjectIdentifier, inner[0]).dotted_string,
            content=decode(bytes, unwrap(inner[1])),
            certificates=tuple(each for each in certificates if each[0] == 0x30),
            signer=SignerInfo.from_der(signers[0]),
        )


# -- private keys --------------------------------------------------------------------------------------------------


@structure
class OneAsymmetricKey:
    """OneAsymmetricKey (RFC 5958, 2), version 2 when it has its public key; PKCS #8's PrivateKeyInfo without."""

    version: int
    private_key_algorithm: AlgorithmIdentifier
    private_key: bytes
    attributes: Annotated[AnyValue, Explicit(0)] = None
    public_key: Annotated[BitString | None, Implicit(1)] = None

    @classmethod
    def make(cls, pkcs8: bytes, spki: bytes) -> OneAsymmetricKey:
        """Version 2, from PKCS #8 and SubjectPublicKeyInfo in DER.

        Raises:
            ValueError: one does not decode.
        """
        version, identifier, key = _members(pkcs8)[:3]
        decode(int, version)
        public = decode(SubjectPublicKeyInfo, spki)
        return cls(
            version=1,
            private_key_algorithm=decode(AlgorithmIdentifier, identifier),
            private_key=decode(bytes, key),
            public_key=public.subject_public_key,
        )

    @property
    def pkcs8(self) -> bytes:
        """PKCS #8 (version 1) in DER, which every OpenSSL reads."""
        return encode(
            OneAsymmetricKey(version=0, private_key_algorithm=self.private_key_algorithm, private_key=self.private_key)
        )


def key_package(keys: Sequence[OneAsymmetricKey]) -> bytes:
    """DER of an AsymmetricKeyPackage (RFC 5958, 2)."""
    return wrap(0x30, b"".join(map(encode, keys)))


def packaged_keys(data: bytes) -> list[OneAsymmetricKey]:
    """The keys of an AsymmetricKeyPackage.

    Raises:
        ValueError: it is none.
    """
    if count(data, _MAX_ELEMENTS, 3) > _MAX_ELEMENTS:
        raise ValueError("too many elements")
    return [decode(OneAsymmetricKey, each) for each in _members(data)]
