"""The 27 bodies of a PKIMessage (RFC 9810, 5.3).

``decode_body`` gives what the class or list below says; ``encode_body`` takes the same back.

========================  ======================================================================
ir, cr, kur, krr, ccr     list of CertReqMsg
ip, cp, kup, ccp          CertRepMessage
p10cr                     CertificationRequest
popdecc, popdecr          list of Challenge, list of int
krp                       KeyRecRepContent
rr, rp                    list of RevDetails, RevRepContent
ckuann                    CAKeyUpdAnnContent or RootCaKeyUpdateContent
cann, crlann, nested      bytes (a certificate), list of bytes (CRLs), list of bytes (PKIMessages)
rann                      RevAnnContent
pkiconf                   None
genm, genp                list of InfoTypeAndValue
error                     ErrorMsgContent
certConf                  list of CertStatus
pollReq, pollRep          list of PollReq, list of PollRep
========================  ======================================================================

Nothing here bounds a peer's counts: that is the gate's, before it calls ``decode_body``.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from cryptography.hazmat.asn1 import Explicit, Size, Variant

from opensslcmp.asn1.common import (
    TLV,
    AlgorithmIdentifier,
    AnyValue,
    BitString,
    Extension,
    GeneralizedTime,
    SubjectPublicKeyInfo,
    decode,
    decode_list,
    der,
    encode,
    encode_list,
    structure,
    tlv,
    unwrap,
    wrap,
)
from opensslcmp.asn1.crmf import CertId, CertReqMsg, CertTemplate, PKIPublicationInfo
from opensslcmp.asn1.message import InfoTypeAndValue, PKIStatusInfo
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage

__all__ = [
    "CAKeyUpdAnnContent",
    "CertRepMessage",
    "CertResponse",
    "CertStatus",
    "CertificationRequest",
    "CertificationRequestInfo",
    "CertifiedKeyPair",
    "Challenge",
    "ErrorMsgContent",
    "KeyRecRepContent",
    "PollRep",
    "PollReq",
    "Rand",
    "RevAnnContent",
    "RevDetails",
    "RevRepContent",
    "RootCaKeyUpdateContent",
    "check_certificates",
    "decode_body",
    "encode_body",
]


@structure
class CertifiedKeyPair:
    """CertifiedKeyPair. ``cert_or_enc_cert.tag`` is certificate or encryptedCert; private_key is an EncryptedKey."""

    cert_or_enc_cert: (
        Annotated[Variant[TLV, Literal["certificate"]], Explicit(0)]
        | Annotated[Variant[TLV, Literal["encryptedCert"]], Explicit(1)]
    )
    private_key: Annotated[AnyValue, Explicit(0)] = None
    publication_info: Annotated[PKIPublicationInfo | None, Explicit(1)] = None

    @classmethod
    def of(cls, certificate: bytes, private_key: AnyValue = None) -> Self:
        """One with a certificate in clear."""
        return cls(cert_or_enc_cert=Variant(tlv(certificate), "certificate"), private_key=private_key)

    @property
    def certificate(self) -> bytes | None:
        """The certificate, when it is not encrypted."""
        choice = self.cert_or_enc_cert
        return der(choice.value) if choice.tag == "certificate" else None


@structure
class CertResponse:
    """CertResponse (RFC 9810, 5.3.4)."""

    cert_req_id: int
    status: PKIStatusInfo
    certified_key_pair: CertifiedKeyPair | None = None
    rsp_info: bytes | None = None

    @property
    def certificate(self) -> bytes | None:
        """The certificate, when there is one and it is not encrypted."""
        return None if self.certified_key_pair is None else self.certified_key_pair.certificate


@structure
class CertRepMessage:
    """CertRepMessage (RFC 9810, 5.3.4): ip, cp, kup, ccp."""

    ca_pubs: Annotated[list[TLV] | None, Explicit(1)] = None
    response: list[CertResponse]


@structure
class CertificationRequestInfo:
    """CertificationRequestInfo (RFC 2986): ``attributes`` is [0] IMPLICIT SET OF Attribute, as it stands."""

    version: int
    subject: TLV
    subject_pk_info: SubjectPublicKeyInfo
    attributes: AnyValue = None


@structure
class CertificationRequest:
    """CertificationRequest (RFC 2986). ``info`` is kept raw, since the signature covers it."""

    certification_request_info: TLV
    signature_algorithm: AlgorithmIdentifier
    signature: BitString

    @property
    def info(self) -> CertificationRequestInfo:
        """The CertificationRequestInfo, decoded.

        Raises:
            ValueError: it is none.
        """
        return decode(CertificationRequestInfo, der(self.certification_request_info))


@structure
class Challenge:
    """Challenge of popdecc (RFC 9810, 5.2.8.3.3); encrypted_rand is EnvelopedData."""

    owf: AlgorithmIdentifier | None = None
    witness: bytes
    challenge: bytes
    encrypted_rand: Annotated[AnyValue, Explicit(0)] = None


@structure
class Rand:
    """Rand (RFC 9810, 5.2.8.3.3), what a Challenge encrypts: a number, and who sent it (a GeneralName)."""

    integer: int
    sender: TLV


@structure
class KeyRecRepContent:
    """KeyRecRepContent (RFC 9810, 5.3.8)."""

    status: PKIStatusInfo
    new_sig_cert: Annotated[AnyValue, Explicit(0)] = None
    ca_certs: Annotated[list[TLV] | None, Explicit(1)] = None
    key_pair_hist: Annotated[list[CertifiedKeyPair] | None, Explicit(2)] = None


@structure
class RevDetails:
    """RevDetails (RFC 9810, 5.3.9)."""

    cert_details: CertTemplate
    crl_entry_details: list[Extension] | None = None


@structure
class RevRepContent:
    """RevRepContent (RFC 9810, 5.3.10)."""

    status: list[PKIStatusInfo]
    rev_certs: Annotated[list[CertId] | None, Explicit(0)] = None
    crls: Annotated[list[TLV] | None, Explicit(1)] = None


@structure
class CAKeyUpdAnnContent:
    """CAKeyUpdAnnContent (RFC 9810, 5.3.13), the deprecated form of ckuann."""

    old_with_new: TLV
    new_with_old: TLV
    new_with_new: TLV


@structure
class RootCaKeyUpdateContent:
    """RootCaKeyUpdateContent (RFC 9810, 5.3.19.15)."""

    new_with_new: TLV
    new_with_old: Annotated[AnyValue, Explicit(0)] = None
    old_with_new: Annotated[AnyValue, Explicit(1)] = None


@structure
class RevAnnContent:
    """RevAnnContent (RFC 9810, 5.3.15)."""

    status: int
    cert_id: CertId
    will_be_revoked_at: GeneralizedTime
    bad_since_date: GeneralizedTime
    crl_details: list[Extension] | None = None


@structure
class ErrorMsgContent:
    """ErrorMsgContent (RFC 9810, 5.3.21)."""

    pki_status_info: PKIStatusInfo
    error_code: int | None = None
    error_details: list[str] | None = None


@structure
class CertStatus:
    """CertStatus of certConf (RFC 9810, 5.3.18); no status_info means accepted."""

    cert_hash: bytes
    cert_req_id: int
    status_info: PKIStatusInfo | None = None
    hash_alg: Annotated[AlgorithmIdentifier | None, Explicit(0)] = None


@structure
class PollReq:
    """One item of PollReqContent (RFC 9810, 5.3.22)."""

    cert_req_id: int


@structure
class PollRep:
    """One item of PollRepContent (RFC 9810, 5.3.22); ``check_after`` in seconds."""

    cert_req_id: int
    check_after: int
    reason: list[str] | None = None


# -- the one-field wrappers for SEQUENCE OF and CHOICE at top level ------------------------------------------------


@structure
class _CertReqMessages:
    value: Annotated[list[CertReqMsg], Size(1, None)]


@structure
class _Challenges:
    value: list[Challenge]


@structure
class _Integers:
    value: list[int]


@structure
class _RevReqContent:
    value: list[RevDetails]


@structure
class _GenMsgContent:
    value: list[InfoTypeAndValue]


@structure
class _CertConfirmContent:
    value: list[CertStatus]


@structure
class _PollReqContent:
    value: list[PollReq]


@structure
class _PollRepContent:
    value: list[PollRep]


@structure
class _Elements:
    value: list[TLV]


@structure
class _CAKeyUpdContent:
    value: CAKeyUpdAnnContent | Annotated[RootCaKeyUpdateContent, Explicit(0)]


_LISTS: dict[BodyType, type[Any]] = {
    BodyType.IR: _CertReqMessages,
    BodyType.CR: _CertReqMessages,
    BodyType.KUR: _CertReqMessages,
    BodyType.KRR: _CertReqMessages,
    BodyType.CCR: _CertReqMessages,
    BodyType.POPDECC: _Challenges,
    BodyType.POPDECR: _Integers,
    BodyType.RR: _RevReqContent,
    BodyType.CKUANN: _CAKeyUpdContent,
    BodyType.GENM: _GenMsgContent,
    BodyType.GENP: _GenMsgContent,
    BodyType.CERT_CONF: _CertConfirmContent,
    BodyType.POLL_REQ: _PollReqContent,
    BodyType.POLL_REP: _PollRepContent,
}
_STRUCTURES: dict[BodyType, type[Any]] = {
    BodyType.IP: CertRepMessage,
    BodyType.CP: CertRepMessage,
    BodyType.KUP: CertRepMessage,
    BodyType.CCP: CertRepMessage,
    BodyType.P10CR: CertificationRequest,
    BodyType.KRP: KeyRecRepContent,
    BodyType.RP: RevRepContent,
    BodyType.RANN: RevAnnContent,
    BodyType.ERROR: ErrorMsgContent,
}


def check_certificates(content: Any) -> None:
    """Every certificate in these contents is a SEQUENCE at least; nothing is looked into.

    Raises:
        ValueError: one is not.
    """
    found: list[Any] = []
    if isinstance(content, CertRepMessage):
        found = list(content.ca_pubs or ())
        for response in content.response:
            pair = response.certified_key_pair
            if pair is not None and pair.cert_or_enc_cert.tag == "certificate":
                found.append(pair.cert_or_enc_cert.value)
    elif isinstance(content, CAKeyUpdAnnContent | RootCaKeyUpdateContent):
        found = [content.new_with_new, content.new_with_old, content.old_with_new]
    elif isinstance(content, KeyRecRepContent):
        found = [content.new_sig_cert, *(content.ca_certs or ())]
        for pair in content.key_pair_hist or ():
            if pair.cert_or_enc_cert.tag == "certificate":
                found.append(pair.cert_or_enc_cert.value)
    if any(item is not None and item.tag_bytes != b"0" for item in found):
        raise ValueError("a certificate that is no SEQUENCE")


def decode_body(body_type: BodyType, body_der: bytes) -> Any:
    """The content of a body, as the table at the top of this module says.

    Raises:
        BadMessage: badDataFormat when it is not one.
    """
    try:
        wrapper = _LISTS.get(body_type)
        if wrapper is not None:
            content = decode_list(wrapper, body_der)
            if body_type is BodyType.CKUANN:
                check_certificates(content)
            return content
        cls = _STRUCTURES.get(body_type)
        if cls is not None:
            content = decode(cls, body_der)
            check_certificates(content)
            return content
        return _decode_other(body_type, body_der)
    except (ValueError, OverflowError) as error:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"the {body_type.text} body does not decode: {error}") from error


def _decode_other(body_type: BodyType, body_der: bytes) -> Any:
    if body_type is BodyType.PKICONF:
        if body_der != b"\x05\x00":
            raise ValueError("not NULL")
        return None
    if body_type is BodyType.CANN:
        if tlv(body_der).tag_bytes != b"0":
            raise ValueError("not a certificate")
        return body_der
    items: list[TLV] = decode_list(_Elements, body_der)
    if any(item.tag_bytes != b"0" for item in items):
        raise ValueError("an item is no SEQUENCE")
    if body_type is BodyType.NESTED and not items:
        raise ValueError("no message inside")
    return [der(item) for item in items]


def encode_body(body_type: BodyType, content: Any) -> bytes:
    """DER of a body's content: an object or list as ``decode_body`` gives it, or ready DER as bytes.

    Items of a list may be DER already. pkiconf takes None.

    Raises:
        ValueError: a value that its type cannot hold.
    """
    if isinstance(content, bytes):
        return content
    if content is None and body_type is BodyType.PKICONF:
        return b"\x05\x00"
    if isinstance(content, RootCaKeyUpdateContent):
        return wrap(0xA0, encode(content))
    if body_type is BodyType.POPDECR:
        return unwrap(encode(_Integers(value=list(content))))
    if isinstance(content, Sequence):
        return encode_list(content)
    return encode(content)
