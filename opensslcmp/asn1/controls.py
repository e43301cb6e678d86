"""What a certificate request says beside its template: controls and regInfo (RFC 4211, 6 and 7).

Functions make the AttributeTypeAndValue that stands in a request; ``Controls`` is what was found in one.

Source: RFC 4211, 6, 7 and appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.x509 import ObjectIdentifier

from opensslcmp.asn1 import oids
from opensslcmp.asn1.common import AttributeTypeAndValue, decode, der, encode, read_header, tlv, unwrap, wrap
from opensslcmp.asn1.crmf import CertId, CertReqMsg, PKIPublicationInfo

__all__ = [
    "ArchiveOptions",
    "Controls",
    "archive",
    "archive_generated",
    "authenticator",
    "cert_req",
    "old_cert_id",
    "protocol_encr_key",
    "publication",
    "reg_token",
    "utf8_pairs",
]


def _control(oid: str, value: bytes) -> AttributeTypeAndValue:
    return AttributeTypeAndValue(type=ObjectIdentifier(oid), value=tlv(value))


def reg_token(token: str) -> AttributeTypeAndValue:
    """regToken: one-time information, known to who is to be registered (RFC 4211, 6.1)."""
    return _control(oids.REG_CTRL_REG_TOKEN, encode(token))


def authenticator(value: str) -> AttributeTypeAndValue:
    """authenticator: what is used again and again to tell who asks (RFC 4211, 6.2)."""
    return _control(oids.REG_CTRL_AUTHENTICATOR, encode(value))


def publication(publish: bool) -> AttributeTypeAndValue:
    """pkiPublicationInfo: please publish the certificate, or do not (RFC 4211, 6.3)."""
    return _control(oids.REG_CTRL_PKI_PUBLICATION_INFO, encode(PKIPublicationInfo(action=int(publish))))


def archive(enveloped: bytes) -> AttributeTypeAndValue:
    """pkiArchiveOptions with a private key, in EnvelopedData (DER) for who archives it (RFC 4211, 6.4)."""
    return _control(oids.REG_CTRL_PKI_ARCHIVE_OPTIONS, wrap(0xA0, b"\xa0" + enveloped[1:]))


def archive_generated(wanted: bool) -> AttributeTypeAndValue:
    """pkiArchiveOptions: archive the key that you make for me, or do not (RFC 4211, 6.4)."""
    return _control(oids.REG_CTRL_PKI_ARCHIVE_OPTIONS, b"\x82\x01\xff" if wanted else b"\x82\x01\x00")


def old_cert_id(issuer: bytes, serial_number: int) -> AttributeTypeAndValue:
    """oldCertID: which certificate is to be updated, by the issuer's Name (DER) and its number (RFC 4211, 6.5)."""
    return _control(oids.REG_CTRL_OLD_CERT_ID, encode(CertId.make(issuer, serial_number)))


def protocol_encr_key(spki: bytes) -> AttributeTypeAndValue:
    """protocolEncrKey: the key (SubjectPublicKeyInfo, DER) that answers are to be encrypted to (RFC 4211, 6.6)."""
    return _control(oids.REG_CTRL_PROTOCOL_ENCR_KEY, spki)


def utf8_pairs(pairs: Mapping[str, str]) -> AttributeTypeAndValue:
    """regInfo utf8Pairs (RFC 4211, 7.1).

    >>> unwrap(der(utf8_pairs({"version": "1", "what?": "50%"}).value))
    b'version?1%what%3f?50%25%'
    """
    text = "".join(f"{_quoted(name)}?{_quoted(value)}%" for name, value in pairs.items())
    return _control(oids.REG_INFO_UTF8_PAIRS, encode(text))


def cert_req(request: bytes) -> AttributeTypeAndValue:
    """regInfo certReq: another CertRequest (DER), which the subject asked an RA for (RFC 4211, 7.2)."""
    return _control(oids.REG_INFO_CERT_REQ, request)


def _quoted(text: str) -> str:
    return text.replace("%", "%25").replace("?", "%3f")


def _pairs(text: str) -> dict[str, str]:
    # A "%" ends a pair unless it begins "%25" or "%3f".
    for quoted, mark in (("%25", "\0"), ("%3f", "\1"), ("%3F", "\1")):
        text = text.replace(quoted, mark)
    found = {}
    for item in filter(None, text.split("%")):
        name, separator, value = item.partition("?")
        if not separator or not name:
            raise ValueError("utf8Pairs without a name")
        found[_back(name)] = _back(value)
    return found


def _back(text: str) -> str:
    return text.replace("\0", "%").replace("\1", "?")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveOptions:
    """PKIArchiveOptions.

    Attributes:
        enveloped: the private key, in EnvelopedData (a SEQUENCE in DER).
        parameters: from which the key was made; nobody does that any more.
        generated: whether the key that the server makes is to be archived.
    """

    enveloped: bytes | None = field(default=None, repr=False)
    parameters: bytes | None = field(default=None, repr=False)
    generated: bool | None = None

    @classmethod
    def from_der(cls, data: bytes) -> ArchiveOptions:
        """From DER.

        Raises:
            ValueError: it is none, or its key is an EncryptedValue (RFC 4211), which is deprecated.
        """
        tag, start, end = read_header(data, 0, len(data))
        content = data[start:end]
        if end == len(data):
            if tag == 0xA0 and content[:1] == b"\xa0":
                return cls(enveloped=wrap(0x30, unwrap(content)))
            if tag == 0x81:
                return cls(parameters=content)
            if tag == 0x82 and content in {b"\x00", b"\xff"}:
                return cls(generated=content == b"\xff")
        raise ValueError("not PKIArchiveOptions with EnvelopedData")


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """The controls and the regInfo of one request.

    Attributes:
        reg_token, authenticator: texts, never shown by repr.
        publish: False for dontPublish, True for pleasePublish, None when nothing is said.
        archive: PKIArchiveOptions.
        old_cert_id: of a key update.
        protocol_encr_key: SubjectPublicKeyInfo (DER) to encrypt answers to.
        utf8_pairs: of the regInfo.
        cert_req: CertRequest (DER) of the regInfo.
        others: types that are not known here, dotted.
    """

    reg_token: str | None = field(default=None, repr=False)
    authenticator: str | None = field(default=None, repr=False)
    publish: bool | None = None
    archive: ArchiveOptions | None = None
    old_cert_id: CertId | None = None
    protocol_encr_key: bytes | None = None
    utf8_pairs: Mapping[str, str] = field(default_factory=dict)
    cert_req: bytes | None = field(default=None, repr=False)
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: CertReqMsg) -> Controls:
        """Those of a request.

        Raises:
            ValueError: one does not decode, or is there twice.
        """
        found: dict[str, object] = {}
        others = []
        for each in (*(request.cert_req.controls or ()), *(request.reg_info or ())):
            known = _READERS.get(each.oid)
            if known is None:
                others.append(each.oid)
                continue
            name, read = known
            if name in found:
                raise ValueError(f"{oids.name_of(each.oid)} is there twice")
            found[name] = read(der(each.value))
        return cls(others=tuple(others), **found)  # type: ignore[arg-type]


def _publish(data: bytes) -> bool:
    action = decode(PKIPublicationInfo, data).action
    if action not in {0, 1}:
        raise ValueError("an unknown action of pkiPublicationInfo")
    return bool(action)


def _sequence(data: bytes) -> bytes:
    if data[:1] != b"\x30":
        raise ValueError("not a SEQUENCE")
    return data


_READERS: dict[str, tuple[str, Callable[[bytes], object]]] = {
    oids.REG_CTRL_REG_TOKEN: ("reg_token", lambda data: decode(str, data)),
    oids.REG_CTRL_AUTHENTICATOR: ("authenticator", lambda data: decode(str, data)),
    oids.REG_CTRL_PKI_PUBLICATION_INFO: ("publish", _publish),
    oids.REG_CTRL_PKI_ARCHIVE_OPTIONS: ("archive", ArchiveOptions.from_der),
    oids.REG_CTRL_OLD_CERT_ID: ("old_cert_id", lambda data: decode(CertId, data)),
    oids.REG_CTRL_PROTOCOL_ENCR_KEY: ("protocol_encr_key", _sequence),
    oids.REG_INFO_UTF8_PAIRS: ("utf8_pairs", lambda data: _pairs(decode(str, data))),
    oids.REG_INFO_CERT_REQ: ("cert_req", _sequence),
}
