"""An exchange of messages as a sequence diagram, in the language of Mermaid, which many a page of Markdown draws.

What varies from one run to the next (ids, nonces, keys, times) is left out, so that the same exchange gives the same diagram.

Source: RFC 9810, 5.3, for which body is a request; https://mermaid.js.org/syntax/sequenceDiagram.html.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography import x509

from opensslcmp.asn1.common import der
from opensslcmp.asn1.gate import Message, admit
from opensslcmp.asn1.message import PKIStatusInfo
from opensslcmp.asn1.oids import name_of
from opensslcmp.enums import BodyType, PKIStatus

__all__ = ["sequence_diagram"]

_ASKED = frozenset(
    {
        BodyType.IR,
        BodyType.CR,
        BodyType.P10CR,
        BodyType.POPDECR,
        BodyType.KUR,
        BodyType.KRR,
        BodyType.RR,
        BodyType.CCR,
        BodyType.GENM,
        BodyType.CERT_CONF,
        BodyType.POLL_REQ,
        BodyType.NESTED,
    }
)


def sequence_diagram(messages: Iterable[bytes], *, client: str = "client", server: str = "server") -> str:
    """The diagram of PKIMessages in DER, in the order in which they were sent.

    An error message is the client's when it follows an answer of the server, and the server's otherwise.

    Raises:
        BadMessage: one does not pass the gate, or its body does not decode.
    """
    lines = ["sequenceDiagram", f"    participant C as {_plain(client)}", f"    participant S as {_plain(server)}"]
    last_by_client = False
    for each in messages:
        message = admit(each)
        kind = message.body_type
        by_client = kind in _ASKED or (kind is BodyType.ERROR and len(lines) > 3 and not last_by_client)
        arrow = "C->>S" if by_client else "S->>C"
        told = [": ".join(filter(None, (kind.text, _plain(_content(message))))), _plain(_protection(message))]
        lines.append(f"    {arrow}: {'<br/>'.join(told)}")
        last_by_client = by_client
    return "\n".join(lines) + "\n"


def _protection(message: Message) -> str:
    if message.protection is None or message.protection_algorithm is None:
        return "without protection"
    algorithm = name_of(message.protection_algorithm)
    if message.mac is not None:
        return f"{algorithm}, reference {_text(message.sender_kid or b'')}"
    signer = message.extra_certs[0] if message.extra_certs else None
    who = _subject(signer) if signer is not None else _name(message.sender or b"0\0")
    return f"{algorithm} by {who}"


def _content(message: Message) -> str:
    content = message.content()
    match message.body_type:
        case BodyType.IR | BodyType.CR | BodyType.KUR | BodyType.CCR:
            names = [
                _name(der(each.cert_req.cert_template.subject))
                for each in content
                if each.cert_req.cert_template.subject
            ]
            return _joined([*names, *(["implicitConfirm"] if message.implicit_confirm else [])])
        case BodyType.P10CR:
            return _name(der(content.info.subject))
        case BodyType.IP | BodyType.CP | BodyType.KUP | BodyType.CCP:
            told = [_response(each) for each in content.response]
            return _joined([*told, *(["implicitConfirm"] if message.implicit_confirm else [])])
        case BodyType.CERT_CONF:
            return _joined([_status(each.status_info) if each.status_info else "accepted" for each in content])
        case BodyType.POLL_REP:
            return _joined([f"check after {each.check_after} s" for each in content])
        case BodyType.RP:
            return _joined([_status(each) for each in content.status])
        case BodyType.GENM | BodyType.GENP:
            return _joined([name_of(each.oid) for each in content])
        case BodyType.ERROR:
            return _status(content.pki_status_info)
        case BodyType.NESTED:
            return _joined([each.body_type.text for each in message.nested()])
        case _:
            return ""


def _response(response: Any) -> str:
    told = _status(response.status)
    certificate = response.certificate
    return told if certificate is None else f"{told}, certificate of {_subject(certificate)}"


def _status(info: PKIStatusInfo) -> str:
    status = PKIStatus(info.status).text if info.status in set(PKIStatus) else str(info.status)
    return _joined([status, *(each.text for each in info.failures), *info.text])


def _subject(certificate: bytes) -> str:
    try:
        return x509.load_der_x509_certificate(certificate).subject.rfc4514_string() or "nobody"
    except (ValueError, x509.InvalidVersion):
        return "a certificate that does not decode"


def _name(name: bytes) -> str:
    try:
        return x509.Name.from_bytes(name).rfc4514_string() or "NULL-DN"
    except ValueError:
        return "a name that does not decode"


def _text(data: bytes) -> str:
    text = data.decode(errors="replace")
    return text if text.isprintable() and "\ufffd" not in text else data.hex()


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _plain(text: str) -> str:
    """Text as Mermaid shows it: what would end a line, or begin an element of HTML, is written as a character reference."""
    return "".join(each if each.isprintable() and each not in '#;<>"' else f"#{ord(each)};" for each in text)
