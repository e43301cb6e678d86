"""CRMF (RFC 4211, appendix B; IMPLICIT TAGS, but EXPLICIT wherever the type is a CHOICE such as Name or Time).

A POPO signature is made over the DER of CertRequest *as sent*: take those bytes with ``raw_cert_requests``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cryptography.hazmat.asn1 import Explicit, Implicit, Variant

from opensslcmp.asn1.common import (
    TLV,
    AlgorithmIdentifier,
    AnyValue,
    AttributeTypeAndValue,
    BitString,
    Extension,
    Null,
    SubjectPublicKeyInfo,
    Time,
    decode,
    der,
    directory_name,
    elements,
    encode,
    name_of_general,
    read_header,
    structure,
    tlv,
    unwrap,
    wrap,
)

__all__ = [
    "CertId",
    "CertReqMsg",
    "CertRequest",
    "CertTemplate",
    "EncKeyWithID",
    "EncryptedValue",
    "OptionalValidity",
    "PBMParameter",
    "PKIPublicationInfo",
    "PKMACValue",
    "POPOPrivKey",
    "POPOSigningKey",
    "POPOSigningKeyInput",
    "PrivateKeyInfo",
    "SinglePubInfo",
    "encrypted_value",
    "enveloped_data",
    "enveloped_key",
    "raw_cert_requests",
]


@structure
class OptionalValidity:
    """OptionalValidity: either end may be missing."""

    not_before: Annotated[Time | None, Explicit(0)] = None
    not_after: Annotated[Time | None, Explicit(1)] = None


@structure
class CertTemplate:
    """CertTemplate: what the requester wishes. ``issuer`` and ``subject`` are Names as they stand."""

    version: Annotated[int | None, Implicit(0)] = None
    serial_number: Annotated[int | None, Implicit(1)] = None
    signing_alg: Annotated[AlgorithmIdentifier | None, Implicit(2)] = None
    issuer: Annotated[AnyValue, Explicit(3)] = None
    validity: Annotated[OptionalValidity | None, Implicit(4)] = None
    subject: Annotated[AnyValue, Explicit(5)] = None
    public_key: Annotated[SubjectPublicKeyInfo | None, Implicit(6)] = None
    issuer_uid: Annotated[BitString | None, Implicit(7)] = None
    subject_uid: Annotated[BitString | None, Implicit(8)] = None
    extensions: Annotated[list[Extension] | None, Implicit(9)] = None

    @property
    def issuer_der(self) -> bytes | None:
        """The issuer's Name, or None."""
        return None if self.issuer is None else der(self.issuer)

    @property
    def subject_der(self) -> bytes | None:
        """The subject's Name, or None."""
        return None if self.subject is None else der(self.subject)

    @property
    def public_key_der(self) -> bytes | None:
        """The SubjectPublicKeyInfo, or None."""
        return None if self.public_key is None else der(self.public_key)

    @property
    def asks_for_key(self) -> bool:
        """No public key, or an algorithm with an empty one: the CA is to make the key (RFC 9483, 4.1.6)."""
        return self.public_key is None or not self.public_key.subject_public_key.as_bytes()


@structure
class CertRequest:
    """CertRequest: what the proof of possession signs."""

    cert_req_id: int
    cert_template: CertTemplate
    controls: list[AttributeTypeAndValue] | None = None

    def control(self, oid: str) -> TLV | None:
        """The value of the first control of this type, or None."""
        for control in self.controls or ():
            if control.oid == oid:
                return control.value
        return None


@structure
class PBMParameter:
    """PBMParameter (RFC 4211, 4.4; RFC 9810, 5.1.3.1)."""

    salt: bytes
    owf: AlgorithmIdentifier
    iteration_count: int
    mac: AlgorithmIdentifier


@structure
class PKMACValue:
    """PKMACValue: a MAC over a public key."""

    alg_id: AlgorithmIdentifier
    value: BitString


@structure
class POPOSigningKeyInput:
    """POPOSigningKeyInput: signed in place of CertRequest when the template lacks subject or key.

    ``auth_info`` is a Variant: ``.tag`` "sender" (a GeneralName) or "publicKeyMAC".
    """

    auth_info: Annotated[Variant[TLV, Literal["sender"]], Explicit(0)] | Variant[PKMACValue, Literal["publicKeyMAC"]]
    public_key: SubjectPublicKeyInfo

    @property
    def sender(self) -> bytes | None:
        """The Name of the sender, when that is how the requester is authenticated."""
        return name_of_general(self.auth_info.value) if isinstance(self.auth_info.value, TLV) else None


@structure
class POPOSigningKey:
    """POPOSigningKey; the signature is over ``poposk_input`` when present, else over the CertRequest."""

    poposk_input: Annotated[POPOSigningKeyInput | None, Implicit(0)] = None
    algorithm_identifier: AlgorithmIdentifier
    signature: BitString

    @property
    def signed_input(self) -> bytes | None:
        """What was signed when the POPO has its own input: DER of POPOSigningKeyInput as a SEQUENCE."""
        return None if self.poposk_input is None else encode(self.poposk_input)


@structure
class POPOPrivKey:
    """POPOPrivKey in a one-field SEQUENCE of ours; ``value.tag`` is the alternative's name.

    thisMessage (BIT STRING, deprecated), subsequentMessage (INTEGER: 0 encrCert, 1 challengeResp), dhMAC (BIT STRING),
    agreeMAC (PKMACValue), encryptedKey (EnvelopedData, still under its [4] IMPLICIT tag in a TLV: see ``enveloped``).
    """

    value: (
        Annotated[Variant[BitString, Literal["thisMessage"]], Implicit(0)]
        | Annotated[Variant[int, Literal["subsequentMessage"]], Implicit(1)]
        | Annotated[Variant[BitString, Literal["dhMAC"]], Implicit(2)]
        | Annotated[Variant[PKMACValue, Literal["agreeMAC"]], Implicit(3)]
        | Variant[TLV, Literal["encryptedKey"]]
    )

    @classmethod
    def from_tlv(cls, proof: TLV) -> POPOPrivKey:
        """Decode the TLV of a ``keyEncipherment`` or ``keyAgreement``.

        Raises:
            ValueError: it is none of the alternatives.
        """
        result = decode(cls, wrap(0x30, der(proof)))
        if isinstance(result.value.value, TLV) and result.value.value.tag_bytes != b"\xa4":
            raise ValueError("no alternative of POPOPrivKey")
        return result

    def to_tlv(self) -> TLV:
        """The TLV to put under ``keyEncipherment`` or ``keyAgreement``."""
        return tlv(unwrap(encode(self)))

    @property
    def enveloped(self) -> bytes | None:
        """EnvelopedData as a SEQUENCE in DER, for encryptedKey."""
        return wrap(0x30, bytes(self.value.value.data)) if isinstance(self.value.value, TLV) else None


@structure
class CertReqMsg:
    """CertReqMsg. ``popo.tag``: raVerified, signature, keyEncipherment or keyAgreement, ``popo.value``: its content."""

    cert_req: CertRequest
    popo: (
        Annotated[Variant[Null, Literal["raVerified"]], Implicit(0)]
        | Annotated[Variant[POPOSigningKey, Literal["signature"]], Implicit(1)]
        | Annotated[Variant[TLV, Literal["keyEncipherment"]], Explicit(2)]
        | Annotated[Variant[TLV, Literal["keyAgreement"]], Explicit(3)]
        | None
    ) = None
    reg_info: list[AttributeTypeAndValue] | None = None


@structure
class CertId:
    """CertId: issuer (a GeneralName) and serial number."""

    issuer: TLV
    serial_number: int

    @classmethod
    def make(cls, issuer: bytes, serial_number: int) -> CertId:
        """From the DER of the issuer's Name."""
        return cls(issuer=directory_name(issuer), serial_number=serial_number)

    @property
    def issuer_der(self) -> bytes | None:
        """The issuer's Name, or None when the GeneralName is none."""
        return name_of_general(self.issuer)


@structure
class SinglePubInfo:
    """SinglePubInfo: pubMethod 0 dontCare, 1 x500, 2 web, 3 ldap; the place is a GeneralName."""

    pub_method: int
    pub_location: AnyValue = None


@structure
class PKIPublicationInfo:
    """PKIPublicationInfo: action 0 dontPublish, 1 pleasePublish."""

    action: int
    pub_infos: list[SinglePubInfo] | None = None


@structure
class EncryptedValue:
    """EncryptedValue (RFC 4211, deprecated in favour of EnvelopedData)."""

    intended_alg: Annotated[AlgorithmIdentifier | None, Implicit(0)] = None
    symm_alg: Annotated[AlgorithmIdentifier | None, Implicit(1)] = None
    enc_symm_key: Annotated[BitString | None, Implicit(2)] = None
    key_alg: Annotated[AlgorithmIdentifier | None, Implicit(3)] = None
    value_hint: Annotated[bytes | None, Implicit(4)] = None
    enc_value: BitString


@structure
class PrivateKeyInfo:
    """PrivateKeyInfo of an archived key; ``attributes`` is [0] IMPLICIT SET OF, as it stands."""

    version: int
    private_key_algorithm: AlgorithmIdentifier
    private_key: bytes
    attributes: AnyValue = None


@structure
class EncKeyWithID:
    """EncKeyWithID: a key to archive, with whose it is (a UTF8String or a GeneralName, as it stands)."""

    private_key: PrivateKeyInfo
    identifier: AnyValue = None


def enveloped_data(encrypted_key: TLV) -> bytes | None:
    """EnvelopedData as a SEQUENCE in DER when this EncryptedKey is one ([0] IMPLICIT), else None."""
    return wrap(0x30, bytes(encrypted_key.data)) if encrypted_key.tag_bytes == b"\xa0" else None


def enveloped_key(enveloped: bytes) -> TLV:
    """An EncryptedKey from EnvelopedData (a SEQUENCE in DER)."""
    return tlv(b"\xa0" + enveloped[1:])


def encrypted_value(encrypted_key: TLV) -> EncryptedValue | None:
    """The EncryptedValue when this EncryptedKey is one, else None.

    Raises:
        ValueError: it is a SEQUENCE but no EncryptedValue.
    """
    return decode(EncryptedValue, der(encrypted_key)) if encrypted_key.tag_bytes == b"0" else None


def raw_cert_requests(body_der: bytes) -> list[bytes]:
    """The DER of each CertRequest in a CertReqMessages, byte for byte as it was sent: what the POPO signature covers.

    Raises:
        ValueError: it is not DER.
    """
    requests = []
    for start, end in elements(body_der):
        _, inside, _ = read_header(body_der, start, end)
        _, _, stop = read_header(body_der, inside, end)
        requests.append(body_der[inside:stop])
    return requests
