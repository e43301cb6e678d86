"""A PKIMessage in words: ``describe`` for machines (JSON-able), ``render`` of it for people, and where it breaks RFC 9483.

``describe`` looks at one message alone, without keys and without the messages before it: protection is not verified,
and rules about a transaction as a whole cannot be told. It is bounded like the gate, but takes what the gate refuses
for its values (an old pvno, ids of odd lengths), so that these can be seen; what it cannot read further it says in
``problem``. Nothing here raises but ``BadMessage``, when not even a header can be read; its text then says where.
"""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.asn1 import SetOf, Variant

from opensslcmp.asn1 import gate, oids
from opensslcmp.asn1.bodies import CertificationRequest, CertifiedKeyPair
from opensslcmp.asn1.certificate import Certificate, CertificateList, TBSCertificate
from opensslcmp.asn1.common import (
    NULL_DN,
    TLV,
    AlgorithmIdentifier,
    AttributeTypeAndValue,
    BitString,
    Extension,
    GeneralizedTime,
    Null,
    SubjectPublicKeyInfo,
    UTCTime,
    decode,
    decode_list,
    der,
    name_of_general,
    read_header,
    structure,
)
from opensslcmp.asn1.crmf import CertId, CertTemplate, PBMParameter
from opensslcmp.asn1.gate import Limits, Message
from opensslcmp.asn1.info import CRLStatus, decode_info
from opensslcmp.asn1.message import InfoTypeAndValue, PBKDF2Params, PBMAC1Params, PKIHeader, PKIStatusInfo
from opensslcmp.enums import BodyType, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage

__all__ = ["describe", "render"]

# Wide where a value is only odd, as finite as the gate where it costs.
_LIMITS = Limits(
    max_message_bytes=4 << 20,
    versions=frozenset(range(256)),
    require_transaction_id=False,
    min_id_bytes=0,
    max_id_bytes=4096,
    max_kid_bytes=4096,
    min_mac_iterations=-(1 << 62),
    max_mac_iterations=1 << 62,
    max_salt_bytes=4096,
    max_infos=1000,
    max_requests=1000,
    max_nested_depth=4,
)
_SHOWN_BYTES = 128
_LARGE_CERTIFICATE = 64 << 10
_ASKING = frozenset((BodyType.IR, BodyType.CR, BodyType.P10CR, BodyType.KUR, BodyType.RR, BodyType.GENM))
_CRMF = frozenset((BodyType.IR, BodyType.CR, BodyType.KUR))
_ANSWERS = frozenset((BodyType.IP, BodyType.CP, BodyType.KUP))
_PROFILE = (
    _ASKING
    | _ANSWERS
    | frozenset(
        (
            BodyType.RP,
            BodyType.GENP,
            BodyType.ERROR,
            BodyType.CERT_CONF,
            BodyType.PKICONF,
            BodyType.POLL_REQ,
            BodyType.POLL_REP,
            BodyType.NESTED,
        )
    )
)
_MACS = frozenset((oids.PASSWORD_BASED_MAC, oids.PBMAC1, oids.KEM_BASED_MAC, oids.DH_BASED_MAC))


def describe(der: bytes) -> dict[str, Any]:
    """What stands in a message: ``type``, ``size``, ``header``, ``body``, ``protection``, ``extraCerts``, ``findings``.

    Everything is a dict, list, str, int, bool or None. Bytes are hex, long ones cut; certificates are short. Each of
    ``findings`` is ``{"rule", "section", "text"}``. Nested messages are described in turn, to a bounded depth. When
    only the header could be read, ``problem`` says what is wrong with the rest, and ``type`` and ``body`` are None.

    Raises:
        BadMessage: badDataFormat when there is no PKIMessage; its text says at which byte.

    Source: RFC 9810, 5; RFC 9483.
    """
    try:
        message = gate.admit(der, limits=_LIMITS)
    except BadMessage as error:
        if error.header is None:
            raise BadMessage(error.failure, f"{_position(der)}: {error.text}") from error
        return _header_only(der, error.header, error)
    return _describe(message)


def render(description: dict[str, Any]) -> str:
    """``describe``'s answer as indented lines for a terminal. Control characters of the peer's are escaped."""
    return "\n".join(_lines(description, 0)) + "\n"


# -- the message ---------------------------------------------------------------------------------------------------


def _describe(message: Message) -> dict[str, Any]:
    result: dict[str, Any] = {
        "type": message.body_type.text,
        "size": len(message.der),
        "header": _header(message.header),
    }
    content = None
    try:
        content = message.content()
        result["body"] = _body(message, content)
    except BadMessage as error:
        result["body"] = {"der": _hex(message.body_der)}
        result["problem"] = error.text
    result["protection"] = None if message.protection is None else _hex(message.protection)
    result["extraCerts"] = [_certificate(certificate) for certificate in message.extra_certs]
    findings = _Findings()
    if "problem" in result:
        findings.add("body", "RFC 9810, 5.3", result["problem"])
    _check_header(message, findings)
    _check_protection(message, findings)
    _check_general_info(message, content, findings)
    if "problem" not in result:
        _check_body(message, content, findings)
    result["findings"] = findings.items
    return result


def _header_only(data: bytes, header: PKIHeader, error: BadMessage) -> dict[str, Any]:
    findings = _Findings()
    findings.add("message", "RFC 9483, 3.5", error.text)
    return {
        "type": None,
        "size": len(data),
        "header": _header(header),
        "body": None,
        "protection": None,
        "extraCerts": [],
        "problem": error.text,
        "findings": findings.items,
    }


def _position(data: bytes) -> str:
    """Where the DER breaks, or that it does not."""
    at = 0
    todo = [(0, len(data))]
    for _ in range(100_000):
        if not todo:
            return "DER, but no PKIMessage"
        at, end = todo.pop()
        if at == end:
            continue
        try:
            tag, start, stop = read_header(data, at, end)
        except ValueError as error:
            return f"at byte {at} of {len(data)}, {error}"
        if at == 0 and stop < len(data):
            return f"at byte {stop} of {len(data)}, bytes follow the first element"
        todo.append((stop, end))
        if tag & 0x20:
            todo.append((start, stop))
    return f"after byte {at} of {len(data)}"


def _header(header: PKIHeader) -> dict[str, Any]:
    moment = header.message_time
    values: dict[str, Any] = {
        "pvno": _number(header.pvno),
        "sender": _general_name(header.sender),
        "recipient": _general_name(header.recipient),
        "messageTime": None if moment is None else _moment(moment.as_datetime()),
        "protectionAlg": None if header.protection_alg is None else _algorithm(header.protection_alg),
        "senderKID": _kid(header.sender_kid),
        "recipKID": _kid(header.recip_kid),
        "transactionID": _hex_or_none(header.transaction_id),
        "senderNonce": _hex_or_none(header.sender_nonce),
        "recipNonce": _hex_or_none(header.recip_nonce),
        "freeText": header.free_text,
        "generalInfo": [_info(item) for item in header.general_info or ()] or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _body(message: Message, content: Any) -> Any:
    if message.body_type is BodyType.NESTED:
        return [_inner(item, message.depth + 1) for item in content]
    if message.body_type is BodyType.CANN:
        return _certificate(content)
    if message.body_type is BodyType.CRLANN:
        return [_crl(item) for item in content]
    return _plain(content)


def _inner(data: bytes, depth: int) -> dict[str, Any]:
    if depth > _LIMITS.max_nested_depth:
        return {"type": None, "size": len(data), "problem": "nested too deep to look into", "findings": []}
    try:
        return _describe(dataclasses.replace(gate.admit(data, limits=_LIMITS), depth=depth))
    except BadMessage as error:
        if error.header is not None:
            return _header_only(data, error.header, error)
        return {"type": None, "size": len(data), "problem": error.text, "findings": []}


# -- values --------------------------------------------------------------------------------------------------------


@structure
class _AttributeOfName:
    type: x509.ObjectIdentifier
    value: TLV


@structure
class _Name:
    value: list[SetOf[_AttributeOfName]]


@structure
class _Elements:
    value: list[TLV]


@structure
class _Identifiers:
    value: list[x509.ObjectIdentifier]


@structure
class _RSAPublicKey:
    modulus: int
    exponent: int


_SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.42": "GN",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_STRINGS = {b"\x0c": "utf-8", b"\x13": "ascii", b"\x16": "ascii", b"\x14": "latin-1", b"\x1e": "utf-16-be"}
_GENERAL_NAMES = {b"\x81": "email:", b"\x82": "DNS:", b"\x86": "URI:"}
_KEY_USAGES = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)


def _hex(data: bytes) -> str:
    return data.hex() if len(data) <= _SHOWN_BYTES else f"{data[:_SHOWN_BYTES].hex()}... ({len(data)} bytes)"


def _hex_or_none(data: bytes | None) -> str | None:
    return None if data is None else _hex(data)


def _kid(data: bytes | None) -> str | None:
    """A reference is text as a rule, a subjectKeyIdentifier is not."""
    if data is None:
        return None
    if data and len(data) <= _SHOWN_BYTES and all(0x20 <= octet < 0x7F for octet in data):
        return f"{data.decode()} ({data.hex()})"
    return _hex(data)


def _number(value: int) -> int | str:
    # Beyond 64 bits a number is an identifier, and other readers of JSON lose digits.
    return value if -(1 << 63) <= value < 1 << 63 else hex(value) if value.bit_length() < 4096 else "a huge number"


def _moment(moment: datetime) -> str:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _escape(text: str) -> str:
    return "".join(f"\\{char}" if char in ',+"\\<>;=' else char for char in text)


def _name(data: bytes) -> str:
    """A Name in the manner of RFC 4514."""
    if data == NULL_DN:
        return "NULL-DN"
    try:
        rdns = decode_list(_Name, data)
    except ValueError:
        return f"#{_hex(data)}"
    return ",".join("+".join(_attribute_of_name(item) for item in rdn.as_list()) for rdn in reversed(rdns))


def _attribute_of_name(item: _AttributeOfName) -> str:
    oid = item.type.dotted_string
    encoding = _STRINGS.get(item.value.tag_bytes)
    value = bytes(item.value.data)
    text = f"#{_hex(der(item.value))}" if encoding is None else _escape(value.decode(encoding, "replace"))
    return f"{_SHORT_NAMES.get(oid, oid)}={text}"


def _general_name(general: TLV) -> str:
    name = name_of_general(general)
    if name is not None:
        return _name(name)
    prefix = _GENERAL_NAMES.get(general.tag_bytes)
    if prefix is not None:
        return prefix + bytes(general.data).decode("ascii", "replace")
    return f"#{_hex(der(general))}"


def _any(value: TLV) -> Any:
    """A value of a type not known here: simple ones as what they are, others in hex."""
    encoding = _STRINGS.get(value.tag_bytes)
    if encoding is not None:
        return bytes(value.data).decode(encoding, "replace")
    try:
        match value.tag_bytes:
            case b"\x05":
                return "NULL"
            case b"\x06":
                return oids.name_of(value.parse(x509.ObjectIdentifier).dotted_string)
            case b"\x02":
                return _number(value.parse(int))
            case b"\x18":
                return _moment(value.parse(GeneralizedTime).as_datetime())
    except ValueError:
        pass
    return _hex(der(value))


def _algorithm(algorithm: AlgorithmIdentifier) -> Any:
    """The name alone when the parameters say nothing, else name and parameters."""
    name = oids.name_of(algorithm.oid)
    parameters = algorithm.parameters
    if not isinstance(parameters, TLV) or parameters.tag_bytes == b"\x05":
        return name
    readers: dict[str, type[Any]] = {
        oids.PASSWORD_BASED_MAC: PBMParameter,
        oids.PBMAC1: PBMAC1Params,
        oids.PBKDF2: PBKDF2Params,
    }
    reader = readers.get(algorithm.oid)
    try:
        value = _any(parameters) if reader is None else _plain(parameters.parse(reader))
    except ValueError:
        value = _hex(der(parameters))
    return {"algorithm": name, "parameters": value}


def _key(spki: SubjectPublicKeyInfo) -> str:
    """Type and size of a public key."""
    oid = spki.algorithm.oid
    if not spki.subject_public_key.as_bytes():
        return f"{oids.name_of(oid)}, to be generated by the CA"
    try:
        if oid in (oids.RSA_ENCRYPTION, oids.RSASSA_PSS):
            return f"RSA {decode(_RSAPublicKey, spki.subject_public_key.as_bytes()).modulus.bit_length()}"
        if oid == oids.EC_PUBLIC_KEY and isinstance(spki.algorithm.parameters, TLV):
            return f"EC {_any(spki.algorithm.parameters)}"
    except ValueError:
        pass
    return oids.name_of(oid)


def _certificate(data: bytes) -> dict[str, Any]:
    """A certificate in short."""
    result: dict[str, Any] = {"sha256": sha256(data).hexdigest(), "size": len(data)}
    tbs = _tbs(data)
    if tbs is None:
        return result | {"problem": "not an X.509 certificate, or a huge one"}
    result |= {
        "subject": _name(der(tbs.subject)),
        "issuer": _name(der(tbs.issuer)),
        "serialNumber": _serial(tbs.serial_number),
        "notBefore": _moment(tbs.validity.not_before.as_datetime()),
        "notAfter": _moment(tbs.validity.not_after.as_datetime()),
    }
    try:
        result["key"] = _key(tbs.subject_public_key_info.parse(SubjectPublicKeyInfo))
    except ValueError:
        result["key"] = "unreadable"
    result["signatureAlgorithm"] = oids.name_of(tbs.signature.oid)
    return result


def _tbs(data: bytes) -> TBSCertificate | None:
    if len(data) > _LARGE_CERTIFICATE:
        return None
    try:
        return decode(Certificate, data).tbs
    except ValueError:
        return None


def _serial(number: int) -> str:
    return hex(number) if number.bit_length() < 4096 else "a huge number"


def _crl(data: bytes) -> dict[str, Any]:
    """A CRL in short."""
    result: dict[str, Any] = {"sha256": sha256(data).hexdigest(), "size": len(data)}
    try:
        tbs = decode(CertificateList, data).tbs
    except ValueError:
        return result | {"problem": "not an X.509 CRL"}
    return result | {
        "issuer": _name(der(tbs.issuer)),
        "thisUpdate": _moment(tbs.this_update.as_datetime()),
        "nextUpdate": None if tbs.next_update is None else _moment(tbs.next_update.as_datetime()),
        "revoked": len(tbs.revoked_certificates or ()),
    }


def _extension(extension: Extension) -> dict[str, Any]:
    return {
        "extension": oids.name_of(extension.oid),
        "critical": extension.critical,
        "value": _extension_value(extension.oid, extension.extn_value),
    }


def _extension_value(oid: str, value: bytes) -> Any:
    try:
        match oid:
            case oids.EXT_KEY_USAGE:
                bits = decode(BitString, value).as_bytes()
                number = int.from_bytes(bits[:2].ljust(2, b"\0"), "big")
                return [name for at, name in enumerate(_KEY_USAGES) if number & (0x8000 >> at)]
            case oids.EXT_EXTENDED_KEY_USAGE:
                return [oids.name_of(item.dotted_string) for item in decode_list(_Identifiers, value)]
            case oids.EXT_SUBJECT_ALT_NAME:
                return [_general_name(item) for item in decode_list(_Elements, value)]
            case oids.EXT_SUBJECT_KEY_IDENTIFIER:
                return _hex(decode(bytes, value))
            case oids.EXT_CRL_REASON:
                return _reason(value)
    except ValueError:
        pass
    return _hex(value)


def _reason(value: bytes) -> str:
    # ENUMERATED has no type in cryptography's module; its content is an INTEGER's.
    if value[:1] != b"\x0a":
        raise ValueError("not ENUMERATED")
    number = decode(int, b"\x02" + value[1:])
    return RevocationReason(number).text


def _status(status: PKIStatusInfo) -> dict[str, Any]:
    known = set(PKIStatus)
    result: dict[str, Any] = {"status": PKIStatus(status.status).text if status.status in known else "unknown"}
    if status.status_string:
        result["statusString"] = status.status_string
    if status.fail_info is not None:
        result["failInfo"] = [failure.text for failure in status.failures]
    return result


def _info(item: InfoTypeAndValue) -> dict[str, Any]:
    result: dict[str, Any] = {"infoType": oids.name_of(item.oid)}
    try:
        value = decode_info(item)
    except BadMessage as error:
        return result | {"value": _hex(item.value_der or b""), "problem": error.text}
    if value is None:
        return result
    match item.oid:
        case oids.IT_CA_PROT_ENC_CERT | oids.IT_ROOT_CA_CERT:
            value = _certificate(value)
        case oids.IT_CA_CERTS:
            value = [_certificate(certificate) for certificate in value]
        case oids.IT_CURRENT_CRL:
            value = _crl(value)
        case oids.IT_CRLS:
            value = [_crl(crl) for crl in value]
        case oids.IT_ORIG_PKI_MESSAGE:
            value = [{"size": len(message), "sha256": sha256(message).hexdigest()} for message in value]
        case _:
            value = _plain(value)
    return result | {"value": value}


def _crl_status(status: CRLStatus) -> dict[str, Any]:
    result: dict[str, Any] = {}
    try:
        result = {"issuer": [_name(name) for name in status.issuers], "url": list(status.urls)}
    except ValueError:
        result["source"] = _hex(der(status.source.value))
    if status.newer_than is not None:
        result["thisUpdate"] = _moment(status.newer_than)
    return {name: value for name, value in result.items() if value}


def _csr(csr: CertificationRequest) -> dict[str, Any]:
    result: dict[str, Any] = {"signatureAlgorithm": _algorithm(csr.signature_algorithm)}
    try:
        info = csr.info
    except ValueError:
        return result | {"problem": "not a CertificationRequestInfo"}
    return {
        "version": _number(info.version),
        "subject": _name(der(info.subject)),
        "key": _key(info.subject_pk_info),
        "attributes": None if info.attributes is None else _hex(der(info.attributes)),
    } | result


_NAME_FIELDS = frozenset(("subject", "issuer"))
_CERTIFICATE_FIELDS = frozenset(("new_with_new", "new_with_old", "old_with_new", "new_sig_cert", "ca_pubs", "ca_certs"))
_RFC_NAMES = {"sender_kid": "senderKID", "pki_status_info": "pKIStatusInfo", "subject_pk_info": "subjectPKInfo"}
_SPECIAL: dict[type[Any], Callable[[Any], Any]] = {
    AlgorithmIdentifier: _algorithm,
    SubjectPublicKeyInfo: _key,
    Extension: _extension,
    PKIStatusInfo: _status,
    InfoTypeAndValue: _info,
    CertificationRequest: _csr,
    BitString: lambda value: _hex(value.as_bytes()),
    Null: lambda value: "NULL",
    TLV: _any,
    UTCTime: lambda value: _moment(value.as_datetime()),
    GeneralizedTime: lambda value: _moment(value.as_datetime()),
    x509.ObjectIdentifier: lambda value: oids.name_of(value.dotted_string),
    datetime: _moment,
    bytes: _hex,
    bool: bool,
    int: _number,
    str: str,
    type(None): lambda value: None,
    AttributeTypeAndValue: lambda control: {"type": oids.name_of(control.oid), "value": _control(control)},
    CRLStatus: _crl_status,
    CertId: lambda item: {"issuer": _general_name(item.issuer), "serialNumber": _serial(item.serial_number)},
}


def _control(control: AttributeTypeAndValue) -> Any:
    readers: dict[str, type[Any]] = {
        oids.REG_CTRL_OLD_CERT_ID: CertId,
        oids.REG_CTRL_ALG_ID: AlgorithmIdentifier,
        oids.REG_CTRL_RSA_KEY_LEN: int,
    }
    # A regToken or authenticator is a secret of the requester.
    if control.oid in (oids.REG_CTRL_REG_TOKEN, oids.REG_CTRL_AUTHENTICATOR):
        return "(not shown)"
    reader = readers.get(control.oid)
    try:
        return _any(control.value) if reader is None else _plain(control.value.parse(reader))
    except ValueError:
        return _hex(der(control.value))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return _RFC_NAMES.get(name, first + "".join(word.capitalize() for word in rest))


def _plain(value: Any) -> Any:
    """Any structure as dict, list, str, int, bool or None; absent fields are left out."""
    special = _SPECIAL.get(type(value))
    if special is not None:
        return special(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Variant):
        if value.tag == "certificate":
            return {value.tag: _certificate(der(value.value))}
        if value.tag == "sender":
            return {value.tag: _general_name(value.value)}
        return {value.tag: _plain(value.value)}
    result: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item is None:
            continue
        if field.name in _NAME_FIELDS and isinstance(item, TLV):
            result[_camel(field.name)] = _name(der(item))
        elif field.name == "serial_number":
            result[_camel(field.name)] = _serial(item)
        elif field.name in _CERTIFICATE_FIELDS and isinstance(item, list):
            result[_camel(field.name)] = [_certificate(der(one)) for one in item]
        elif field.name in _CERTIFICATE_FIELDS:
            result[_camel(field.name)] = _certificate(der(item))
        elif field.name == "private_key" and isinstance(value, CertifiedKeyPair):
            result[_camel(field.name)] = "(encrypted)"
        else:
            result[_camel(field.name)] = _plain(item)
    return result


# -- findings ------------------------------------------------------------------------------------------------------


class _Findings:
    def __init__(self) -> None:
        self.items: list[dict[str, str]] = []

    def add(self, rule: str, section: str, text: str) -> None:
        self.items.append({"rule": rule, "section": section, "text": text})

    def expect(self, kept: object, rule: str, section: str, text: str) -> None:
        if not kept:
            self.add(rule, section, text)


_HEADER = "RFC 9483, 3.1"
_PROTECTION = "RFC 9483, 3.2"
_EXTRA_CERTS = "RFC 9483, 3.3"


def _is_mac(message: Message) -> bool:
    return message.protection_algorithm in _MACS


def _common_names(name: bytes) -> list[bytes]:
    try:
        rdns = decode_list(_Name, name)
    except ValueError:
        return []
    return [bytes(item.value.data) for rdn in rdns for item in rdn.as_list() if item.type.dotted_string == "2.5.4.3"]


def _check_header(message: Message, findings: _Findings) -> None:
    header, kind = message.header, message.body_type
    expect = findings.expect
    expect(header.pvno in (2, 3), "pvno", _HEADER, "pvno is neither 2 nor 3")
    expect(message.sender is not None, "sender", _HEADER, "sender is no directoryName")
    expect(message.recipient is not None, "recipient", _HEADER, "recipient is no directoryName")
    expect(header.message_time is not None, "messageTime", _HEADER, "there is no messageTime")
    for name, value in (("transactionID", header.transaction_id), ("senderNonce", header.sender_nonce)):
        if value is None:
            findings.add(name, _HEADER, f"there is no {name}")
        else:
            expect(len(value) == 16, name, _HEADER, f"{name} has {len(value)} bytes, not 16")
    nonce = header.recip_nonce
    if kind in _ASKING:
        expect(nonce is None, "recipNonce", _HEADER, f"recipNonce in {kind.text}, which opens a transaction")
    elif nonce is not None:
        expect(len(nonce) == 16, "recipNonce", _HEADER, f"recipNonce has {len(nonce)} bytes, not 16")
    elif kind in _PROFILE - {BodyType.NESTED, BodyType.ERROR}:
        findings.add("recipNonce", _HEADER, f"there is no recipNonce in {kind.text}, which follows a message")
    expect(kind in _PROFILE, "bodyType", "RFC 9483, 4", f"{kind.text} is not used in the profile")


def _check_protection(message: Message, findings: _Findings) -> None:
    header, kind = message.header, message.body_type
    expect = findings.expect
    if message.protection is None:
        expect(kind is BodyType.ERROR, "protection", _PROTECTION, f"{kind.text} is not protected")
        return
    if _is_mac(message):
        expect(header.sender_kid, "senderKID", _HEADER, "MAC protection without a reference in senderKID")
        if message.sender is not None and header.sender_kid:
            expect(
                header.sender_kid in _common_names(message.sender),
                "sender",
                _HEADER,
                "MAC protection, and the sender's common name is not the reference in senderKID",
            )
        expect(
            kind is not BodyType.KUR,
            "protection",
            "RFC 9483, 4.1.3",
            "kur with a MAC: it is signed with the certificate to be updated",
        )
        expect(kind is not BodyType.NESTED, "protection", "RFC 9483, 5.2.2", "nested with a MAC: it is signed")
        _check_mac(message, findings)
        return
    if not message.extra_certs:
        findings.add("extraCerts", _EXTRA_CERTS, "signed, and without the protection certificate in extraCerts")
        return
    tbs = _tbs(message.extra_certs[0])
    if tbs is None:
        findings.add("extraCerts", _EXTRA_CERTS, "the first of extraCerts is no X.509 certificate")
        return
    identifier = None
    value = tbs.extension(oids.EXT_SUBJECT_KEY_IDENTIFIER)
    if value is not None:
        try:
            identifier = decode(bytes, value)
        except ValueError:
            findings.add("extraCerts", _EXTRA_CERTS, "the subjectKeyIdentifier of the first of extraCerts is broken")
    same_name = message.sender == der(tbs.subject)
    expect(same_name, "sender", _HEADER, "sender is not the subject of the first of extraCerts")
    if identifier is not None:
        expect(
            header.sender_kid == identifier,
            "senderKID",
            _HEADER,
            "senderKID is not the subjectKeyIdentifier of the first of extraCerts",
        )
        expect(
            same_name or header.sender_kid == identifier,
            "extraCerts",
            _EXTRA_CERTS,
            "the first of extraCerts is not the protection certificate",
        )
    usage = tbs.extension(oids.EXT_KEY_USAGE)
    if usage is not None:
        expect(
            "digitalSignature" in _extension_value(oids.EXT_KEY_USAGE, usage),
            "keyUsage",
            _PROTECTION,
            "the protection certificate's keyUsage does not allow digitalSignature",
        )


def _check_mac(message: Message, findings: _Findings) -> None:
    if isinstance(message.mac, PBMParameter):
        findings.expect(
            message.mac.iteration_count >= 100,
            "iterationCount",
            "RFC 4211, 4.4",
            "PBM with fewer than 100 iterations",
        )
        findings.expect(len(message.mac.salt) >= 8, "salt", "RFC 4211, 4.4", "PBM with a salt below 8 bytes")
    elif isinstance(message.mac, PBMAC1Params) and isinstance(message.mac.key_derivation_func.parameters, TLV):
        derivation = message.mac.key_derivation_func.parameters.parse(PBKDF2Params)
        findings.expect(
            derivation.iteration_count >= 1000,
            "iterationCount",
            "RFC 8018, 4.2",
            "PBMAC1 with fewer than 1000 iterations",
        )
        findings.expect(len(derivation.salt) >= 8, "salt", "RFC 8018, 4.1", "PBMAC1 with a salt below 8 bytes")


def _check_general_info(message: Message, content: Any, findings: _Findings) -> None:
    kind, expect = message.body_type, findings.expect
    confirm = message.header.info(oids.IT_IMPLICIT_CONFIRM)
    enrolling = _CRMF | _ANSWERS | {BodyType.P10CR}
    if confirm is not None:
        expect(confirm.value_der == b"\x05\x00", "implicitConfirm", _HEADER, "implicitConfirm whose value is not NULL")
        expect(kind in enrolling, "implicitConfirm", _HEADER, f"implicitConfirm in {kind.text}")
    if message.header.info(oids.IT_CONFIRM_WAIT_TIME) is not None:
        expect(kind in _ANSWERS, "confirmWaitTime", _HEADER, f"confirmWaitTime in {kind.text}")
        expect(confirm is None, "confirmWaitTime", _HEADER, "confirmWaitTime beside implicitConfirm")
        try:
            _ = message.confirm_wait_time
        except BadMessage:
            findings.add("confirmWaitTime", _HEADER, "confirmWaitTime that is no GeneralizedTime")
    if message.header.info(oids.IT_CERT_PROFILE) is not None:
        try:
            profiles = message.cert_profile
        except BadMessage:
            findings.add("certProfile", _HEADER, "certProfile that is no SEQUENCE OF UTF8String")
            return
        if kind in _CRMF and content is not None:
            expect(
                len(profiles) == len(content),
                "certProfile",
                _HEADER,
                f"{len(profiles)} names in certProfile for {len(content)} requests",
            )


def _check_body(message: Message, content: Any, findings: _Findings) -> None:
    kind = message.body_type
    if kind in _CRMF:
        _check_requests(message, content, findings)
    elif kind in _ANSWERS:
        _check_answer(message, content, findings)
    elif kind in _CHECKS:
        _CHECKS[kind](message, content, findings)


def _check_requests(message: Message, content: Any, findings: _Findings) -> None:
    kind, expect = message.body_type, findings.expect
    section = {BodyType.IR: "RFC 9483, 4.1.1", BodyType.CR: "RFC 9483, 4.1.2"}.get(kind, "RFC 9483, 4.1.3")
    expect(len(content) == 1, "certReqMsg", section, f"{len(content)} CertReqMsg, not one")
    for item in content:
        request, template = item.cert_req, item.cert_req.cert_template
        expect(len(content) > 1 or request.cert_req_id == 0, "certReqId", section, "certReqId is not 0")
        expect(template.subject is not None, "subject", section, "a template without subject")
        for name, value in (("serialNumber", template.serial_number), ("signingAlg", template.signing_alg)):
            expect(value is None, name, section, f"{name} in the template")
        if template.asks_for_key:
            _check_version(message, findings, "RFC 9483, 4.1.6", "central key generation")
            expect(item.popo is None, "popo", "RFC 9483, 4.1.6", "a proof of possession for a key to be generated")
        else:
            expect(item.popo is not None, "popo", section, "there is no proof of possession")
        if item.popo is not None and item.popo.tag == "signature":
            expect(
                (item.popo.value.poposk_input is not None) is (template.subject is None or template.public_key is None),
                "poposkInput",
                section,
                "poposkInput belongs where the template lacks subject or key, and only there",
            )


def _check_answer(message: Message, content: Any, findings: _Findings) -> None:
    kind, expect = message.body_type, findings.expect
    section = "RFC 9483, 4.1.1"
    expect(len(content.response) == 1, "certResponse", section, f"{len(content.response)} CertResponse, not one")
    if content.ca_pubs is not None:
        expect(
            kind is BodyType.IP and _is_mac(message),
            "caPubs",
            "RFC 9483, 4.1.5",
            "caPubs belongs in ip under MAC protection only",
        )
    for response in content.response:
        expected = (0, -1) if kind is BodyType.CP else (0,)
        expect(
            len(content.response) > 1 or response.cert_req_id in expected,
            "certReqId",
            section,
            "certReqId is not 0" + (", nor -1 as for p10cr" if kind is BodyType.CP else ""),
        )
        pair, status = response.certified_key_pair, response.status
        given = status.status in (PKIStatus.ACCEPTED, PKIStatus.GRANTED_WITH_MODS)
        expect(
            (pair is not None) is given,
            "certifiedKeyPair",
            section,
            "accepted without a certificate" if given else "a certificate with a status that gives none",
        )
        _check_status(status, section, findings)
        if pair is not None and isinstance(pair.private_key, TLV) and pair.private_key.tag_bytes == b"\xa0":
            _check_version(message, findings, "RFC 9483, 4.1.6", "EnvelopedData")


def _check_version(message: Message, findings: _Findings, section: str, what: str) -> None:
    findings.expect(message.header.pvno == 3, "pvno", section, f"{what} needs pvno 3")


def _check_status(status: PKIStatusInfo, section: str, findings: _Findings) -> None:
    bits = status.failures
    findings.expect(status.status in set(PKIStatus), "status", section, "a status that is not known")
    if status.status == PKIStatus.REJECTION:
        findings.expect(len(bits) == 1, "failInfo", section, f"a rejection with {len(bits)} failInfo bits, not one")
    else:
        findings.expect(status.fail_info is None, "failInfo", section, "failInfo without a rejection")


def _check_csr(message: Message, content: Any, findings: _Findings) -> None:
    section = "RFC 9483, 4.1.4"
    try:
        info = content.info
    except ValueError:
        findings.add("certificationRequest", section, "the CertificationRequestInfo does not decode")
        return
    findings.expect(info.version == 0, "version", "RFC 2986, 4.1", "the version of the request is not 0 (v1)")


def _check_cert_conf(message: Message, content: Any, findings: _Findings) -> None:
    section = "RFC 9483, 4.1.1"
    findings.expect(len(content) <= 1, "certStatus", section, f"{len(content)} CertStatus, not one")
    for item in content:
        findings.expect(
            len(content) > 1 or item.cert_req_id in (0, -1), "certReqId", section, "certReqId is neither 0 nor -1"
        )
        if item.hash_alg is not None:
            _check_version(message, findings, section, "hashAlg")
        if item.status_info is not None:
            _check_status(item.status_info, section, findings)


def _check_poll(message: Message, content: Any, findings: _Findings) -> None:
    section = "RFC 9483, 4.4"
    findings.expect(len(content) == 1, "certReqId", section, f"{len(content)} items, not one")
    for item in content:
        findings.expect(
            len(content) > 1 or item.cert_req_id in (0, -1), "certReqId", section, "certReqId is neither 0 nor -1"
        )
        if message.body_type is BodyType.POLL_REP:
            findings.expect(item.check_after >= 0, "checkAfter", section, "checkAfter is negative")


def _check_revocation(message: Message, content: Any, findings: _Findings) -> None:
    section, expect = "RFC 9483, 4.2", findings.expect
    expect(len(content) == 1, "revDetails", section, f"{len(content)} RevDetails, not one")
    for item in content:
        template: CertTemplate = item.cert_details
        expect(template.issuer is not None, "issuer", section, "certDetails without issuer")
        expect(template.serial_number is not None, "serialNumber", section, "certDetails without serialNumber")
        reasons = [one for one in item.crl_entry_details or () if one.oid == oids.EXT_CRL_REASON]
        expect(len(reasons) == 1, "reasonCode", section, f"{len(reasons)} reasons for revocation, not one")
        for reason in reasons:
            try:
                _reason(reason.extn_value)
            except ValueError:
                findings.add("reasonCode", section, "a reason for revocation that is not known")


def _check_revocation_answer(message: Message, content: Any, findings: _Findings) -> None:
    section = "RFC 9483, 4.2"
    findings.expect(len(content.status) == 1, "status", section, f"{len(content.status)} statuses, not one")
    for status in content.status:
        _check_status(status, section, findings)


def _check_general(message: Message, content: Any, findings: _Findings) -> None:
    findings.expect(len(content) == 1, "infoType", "RFC 9483, 4.3", f"{len(content)} infoTypes, not one")
    for item in content:
        try:
            decode_info(item)
        except BadMessage as error:
            findings.add("infoValue", "RFC 9483, 4.3", error.text)


def _check_error(message: Message, content: Any, findings: _Findings) -> None:
    section, status = "RFC 9483, 3.6.4", content.pki_status_info
    findings.expect(
        status.status in (PKIStatus.REJECTION, PKIStatus.WAITING),
        "status",
        section,
        "an error whose status is neither rejection nor waiting",
    )
    _check_status(status, section, findings)


def _check_nested(message: Message, content: Any, findings: _Findings) -> None:
    section = "RFC 9483, 5.2.2"
    inner = []
    for data in content:
        try:
            inner.append(gate.admit(data, limits=_LIMITS))
        except BadMessage as error:
            findings.add("nested", section, f"a message inside that does not decode: {error.text}")
    if len(content) == 1 and inner:
        for name, same in (
            ("transactionID", inner[0].transaction_id == message.transaction_id),
            ("senderNonce", inner[0].sender_nonce == message.sender_nonce),
        ):
            findings.expect(same, name, "RFC 9483, 5.2.2.1", f"{name} is not that of the one message inside")
    elif len(inner) > 1:
        ids = [one.transaction_id for one in inner]
        findings.expect(
            len({*ids, message.transaction_id}) == len(ids) + 1,
            "transactionID",
            "RFC 9483, 5.2.2.2",
            "messages of a batch that share a transactionID",
        )


_CHECKS: dict[BodyType, Callable[[Message, Any, _Findings], None]] = {
    BodyType.P10CR: _check_csr,
    BodyType.CERT_CONF: _check_cert_conf,
    BodyType.POLL_REQ: _check_poll,
    BodyType.POLL_REP: _check_poll,
    BodyType.RR: _check_revocation,
    BodyType.RP: _check_revocation_answer,
    BodyType.GENM: _check_general,
    BodyType.GENP: _check_general,
    BodyType.ERROR: _check_error,
    BodyType.NESTED: _check_nested,
}


# -- rendering -----------------------------------------------------------------------------------------------------


def _printable(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def _lines(value: Any, indent: int) -> Iterator[str]:
    pad = "  " * indent
    for name, item in value.items():
        if name == "findings":
            yield f"{pad}findings:{' none' if not item else ''}"
            for finding in item:
                yield f"{pad}  - {_printable(finding['text'])} ({finding['section']})"
        elif isinstance(item, dict):
            yield f"{pad}{name}:"
            yield from _lines(item, indent + 1)
        elif isinstance(item, list):
            yield f"{pad}{name}:{' none' if not item else ''}"
            for one in item:
                if isinstance(one, dict):
                    first, *rest = [*_lines(one, indent + 2)] or [f"{pad}    (empty)"]
                    yield f"{pad}  - {first.lstrip()}"
                    yield from rest
                else:
                    yield f"{pad}  - {_printable(str(one))}"
        else:
            yield f"{pad}{name}: {'none' if item is None else _printable(str(item))}"
