"""Values of genm, genp and generalInfo by infoType (RFC 9810, 5.1.1 and 5.3.19).

``decode_info`` gives, and ``encode_info`` takes:

=========================================  ======================================================
caProtEncCert, rootCaCert, currentCRL      bytes (a certificate or CRL)
caCerts, crls, origPKIMessage              list of bytes
signKeyPairTypes, encKeyPairTypes          list of AlgorithmIdentifier
preferredSymmAlg, keyPairParamRep          AlgorithmIdentifier
caKeyUpdateInfo, rootCaKeyUpdate           CAKeyUpdAnnContent, RootCaKeyUpdateContent
unsupportedOIDs, keyPairParamReq           list of str, str (dotted)
revPassphrase                              TLV (an EncryptedKey)
implicitConfirm                            Null()
confirmWaitTime                            datetime
suppLangTags, certProfile                  list of str
certReqTemplate                            CertReqTemplateContent
crlStatusList                              list of CRLStatus
KemCiphertextInfo                          KemCiphertextInfo
=========================================  ======================================================

None means that there is no value, as in most requests. The value of a type not known here is its TLV.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from cryptography import x509
from cryptography.hazmat.asn1 import Explicit, Size, Variant

from opensslcmp.asn1 import oids
from opensslcmp.asn1.bodies import CAKeyUpdAnnContent, RootCaKeyUpdateContent, check_certificates
from opensslcmp.asn1.certificate import time
from opensslcmp.asn1.common import (
    TLV,
    AlgorithmIdentifier,
    AttributeTypeAndValue,
    GeneralizedTime,
    Null,
    Time,
    decode,
    decode_list,
    der,
    directory_name,
    elements,
    encode,
    encode_list,
    holds_at_most,
    name_of_general,
    structure,
    tlv,
    wrap,
)
from opensslcmp.asn1.crmf import CertTemplate
from opensslcmp.asn1.message import InfoTypeAndValue, general_time
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage

__all__ = [
    "CRLStatus",
    "CertReqTemplateContent",
    "KemCiphertextInfo",
    "KemOtherInfo",
    "decode_info",
    "encode_info",
    "key_spec",
]

MAX_ITEMS = 1000


@structure
class CertReqTemplateContent:
    """CertReqTemplateContent (RFC 9810, 5.3.19.16): what a request should hold, and which keys are taken."""

    cert_template: CertTemplate
    key_spec: list[AttributeTypeAndValue] | None = None

    @property
    def keys(self) -> tuple[AlgorithmIdentifier | int, ...]:
        """The keySpec: an AlgorithmIdentifier for algId, bits for rsaKeyLen; other controls are left out.

        Raises:
            BadMessage: badDataFormat when a value is not of its type.
        """
        found: list[AlgorithmIdentifier | int] = []
        try:
            for control in self.key_spec or ():
                if control.oid == oids.REG_CTRL_ALG_ID:
                    found.append(control.value.parse(AlgorithmIdentifier))
                elif control.oid == oids.REG_CTRL_RSA_KEY_LEN:
                    found.append(control.value.parse(int))
        except ValueError as error:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a keySpec that does not decode") from error
        return tuple(found)


@structure
class CRLStatus:
    """CRLStatus (RFC 9810, 5.3.19.17): a CRL by its place or issuer, and the age of the one already held.

    ``source.tag`` is dpn (a DistributionPointName) or issuer (GeneralNames).
    """

    source: (
        Annotated[Variant[TLV, Literal["dpn"]], Explicit(0)] | Annotated[Variant[TLV, Literal["issuer"]], Explicit(1)]
    )
    this_update: Time | None = None

    @classmethod
    def of_issuer(cls, issuer: bytes, this_update: datetime | None = None) -> Self:
        """The CRL of this issuer (DER of a Name), newer than ``this_update``."""
        return cls(
            source=Variant(tlv(encode_list([directory_name(issuer)])), "issuer"),
            this_update=None if this_update is None else time(this_update),
        )

    @classmethod
    def of_url(cls, url: str, this_update: datetime | None = None) -> Self:
        """The CRL at this distribution point, newer than ``this_update``."""
        return cls(
            source=Variant(tlv(wrap(0xA0, wrap(0x86, url.encode("ascii")))), "dpn"),
            this_update=None if this_update is None else time(this_update),
        )

    @property
    def issuers(self) -> tuple[bytes, ...]:
        """DER of the issuer's Names, when that is the source."""
        if self.source.tag != "issuer":
            return ()
        names = [name_of_general(general) for general in _general_names(der(self.source.value))]
        return tuple([name for name in names if name is not None])

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of the distribution point, when that is the source."""
        if self.source.tag != "dpn" or self.source.value.tag_bytes != b"\xa0":
            return ()
        names = _general_names(wrap(0x30, bytes(self.source.value.data)))
        return tuple([bytes(general.data).decode("ascii") for general in names if general.tag_bytes == b"\x86"])

    @property
    def newer_than(self) -> datetime | None:
        """thisUpdate of the CRL already held, or None."""
        return None if self.this_update is None else self.this_update.as_datetime().replace(tzinfo=UTC)


@structure
class KemCiphertextInfo:
    """KemCiphertextInfo (RFC 9810, 5.1.1.5)."""

    kem: AlgorithmIdentifier
    ct: bytes


@structure
class KemOtherInfo:
    """KemOtherInfo (RFC 9810, 5.1.3.4), input of the key derivation; ``static_string`` is ["CMP-KEM"]."""

    static_string: list[str]
    transaction_id: bytes
    kem_context: Annotated[bytes | None, Explicit(0)] = None


@structure
class _Elements:
    value: list[TLV]


@structure
class _Algorithms:
    value: Annotated[list[AlgorithmIdentifier], Size(1, None)]


@structure
class _Texts:
    value: Annotated[list[str], Size(1, None)]


@structure
class _Identifiers:
    value: Annotated[list[x509.ObjectIdentifier], Size(1, None)]


@structure
class _CRLStatusList:
    value: Annotated[list[CRLStatus], Size(1, None)]


def _general_names(data: bytes) -> list[TLV]:
    items: list[TLV] = decode_list(_Elements, data)
    return items


def _blob(data: bytes) -> bytes:
    if tlv(data).tag_bytes != b"0":
        raise ValueError("not a SEQUENCE")
    return data


def _blobs(data: bytes) -> list[bytes]:
    found = [_blob(data[start:end]) for start, end in elements(data)]
    if not found:
        raise ValueError("an empty list")
    return found


def _key_update(cls: type[Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        content = decode(cls, data)
        check_certificates(content)
        return content

    return read


def _list_of(wrapper: type[Any]) -> Callable[[bytes], Any]:
    return lambda data: decode_list(wrapper, data)


def _one(cls: type[Any]) -> Callable[[bytes], Any]:
    return lambda data: decode(cls, data)


def _same(value: bytes) -> bytes:
    return value


def _encode_texts(values: Iterable[str]) -> bytes:
    return encode_list([encode(value) for value in values])


_TYPES: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    oids.IT_CA_PROT_ENC_CERT: (_blob, _same),
    oids.IT_SIGN_KEY_PAIR_TYPES: (_list_of(_Algorithms), encode_list),
    oids.IT_ENC_KEY_PAIR_TYPES: (_list_of(_Algorithms), encode_list),
    oids.IT_PREFERRED_SYMM_ALG: (_one(AlgorithmIdentifier), encode),
    oids.IT_CA_KEY_UPDATE_INFO: (_key_update(CAKeyUpdAnnContent), encode),
    oids.IT_CURRENT_CRL: (_blob, _same),
    oids.IT_UNSUPPORTED_OIDS: (
        lambda data: [item.dotted_string for item in decode_list(_Identifiers, data)],
        lambda values: encode_list([x509.ObjectIdentifier(value) for value in values]),
    ),
    oids.IT_KEY_PAIR_PARAM_REQ: (
        lambda data: decode(x509.ObjectIdentifier, data).dotted_string,
        lambda value: encode(x509.ObjectIdentifier(value)),
    ),
    oids.IT_KEY_PAIR_PARAM_REP: (_one(AlgorithmIdentifier), encode),
    oids.IT_REV_PASSPHRASE: (tlv, encode),
    oids.IT_IMPLICIT_CONFIRM: (_one(Null), encode),
    oids.IT_CONFIRM_WAIT_TIME: (
        lambda data: decode(GeneralizedTime, data).as_datetime(),
        lambda moment: encode(general_time(moment)),
    ),
    oids.IT_ORIG_PKI_MESSAGE: (_blobs, encode_list),
    oids.IT_SUPP_LANG_TAGS: (_list_of(_Texts), _encode_texts),
    oids.IT_CA_CERTS: (_blobs, encode_list),
    oids.IT_ROOT_CA_KEY_UPDATE: (_key_update(RootCaKeyUpdateContent), encode),
    oids.IT_CERT_REQ_TEMPLATE: (_one(CertReqTemplateContent), encode),
    oids.IT_ROOT_CA_CERT: (_blob, _same),
    oids.IT_CERT_PROFILE: (_list_of(_Texts), _encode_texts),
    oids.IT_CRL_STATUS_LIST: (_list_of(_CRLStatusList), encode_list),
    oids.IT_CRLS: (_blobs, encode_list),
    oids.IT_KEM_CIPHERTEXT_INFO: (_one(KemCiphertextInfo), encode),
}
_LIST_TYPES = frozenset(
    (
        oids.IT_SIGN_KEY_PAIR_TYPES,
        oids.IT_ENC_KEY_PAIR_TYPES,
        oids.IT_UNSUPPORTED_OIDS,
        oids.IT_ORIG_PKI_MESSAGE,
        oids.IT_SUPP_LANG_TAGS,
        oids.IT_CA_CERTS,
        oids.IT_CERT_PROFILE,
        oids.IT_CRL_STATUS_LIST,
        oids.IT_CRLS,
    )
)


def decode_info(item: InfoTypeAndValue, *, max_items: int = MAX_ITEMS) -> Any:
    """The value of an InfoTypeAndValue, as the table at the top of this module says.

    Raises:
        BadMessage: badDataFormat when the value is not what its type asks for, or has more than ``max_items``.

    Source: RFC 9810, 5.3.19.
    """
    value = item.value_der
    oid = item.oid
    if value is None:
        return None
    known = _TYPES.get(oid)
    if known is None:
        return item.info_value
    try:
        if oid in _LIST_TYPES and not holds_at_most(value, max_items):
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"{oids.name_of(oid)} with more than {max_items} items")
        return known[0](value)
    except ValueError as error:
        raise BadMessage(
            FailureInfo.BAD_DATA_FORMAT, f"the value of {oids.name_of(oid)} does not decode: {error}"
        ) from error


def encode_info(oid: str, value: Any = None) -> InfoTypeAndValue:
    """An InfoTypeAndValue from a value as ``decode_info`` gives it; None leaves the value out.

    Raises:
        ValueError: the value is not DER, for a type that is not known here.
    """
    if value is None:
        return InfoTypeAndValue.make(oid)
    known = _TYPES.get(oid)
    return InfoTypeAndValue.make(oid, known[1](value) if known else value)


def key_spec(kind: AlgorithmIdentifier | int) -> AttributeTypeAndValue:
    """A keySpec control of CertReqTemplateContent: an algorithm, or a length of RSA keys in bits."""
    oid = oids.REG_CTRL_RSA_KEY_LEN if isinstance(kind, int) else oids.REG_CTRL_ALG_ID
    return AttributeTypeAndValue(type=x509.ObjectIdentifier(oid), value=tlv(encode(kind)))
