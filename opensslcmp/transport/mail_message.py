"""E-mails that carry PKIMessages: what they are made of, which are refused, and how they are sent.

A PKIMessage is the body of a MIME entity of type application/pkixcmp, in base64: the whole mail, or one part of it. A request's
Message-ID is made from its bytes, and its answer names that in In-Reply-To, so the same request is the same mail.

An answer to an answer would go on for ever. So nothing is answered that a program sent (Auto-Submitted, List-Id,
Precedence), that came back (an empty Return-Path, multipart/report), or that has our own address; and ours say auto-replied.

Source: RFC 2510, 5.3; RFC 9810, 7; RFC 3834; RFC 5322; RFC 2046.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from opensslcmp.transport.mailbox import Unusable

if TYPE_CHECKING:
    import smtplib

__all__ = ["MEDIA_TYPES", "Letter", "Mailer", "compose", "message_id", "message_in", "open_letter", "parse_letter"]

MEDIA_TYPES = frozenset({"application/pkixcmp", "application/x-pkixcmp"})
_MOST_PARTS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Mailer:
    """An SMTP server that takes mail from us.

    Attributes:
        host, port: of it.
        security: ``none``; ``starttls``; ``tls`` from the beginning. With both, its certificate is verified.
        user: to log in as, which needs ``starttls`` or ``tls``; None: nobody.
        password_file: its first line is the password.
        timeout_seconds: for each step.
    """

    host: str = "127.0.0.1"
    port: int = 25
    security: Literal["none", "starttls", "tls"] = "none"
    user: str | None = None
    password_file: Path | None = None
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.security not in {"none", "starttls", "tls"}:
            raise ValueError("security is none, starttls or tls")
        if self.user is not None and (self.security == "none" or self.password_file is None):
            raise ValueError("user needs starttls or tls, and a password_file")

    def send(self, letter: EmailMessage, sender: str, recipient: str) -> None:
        """Hand a mail over.

        Raises:
            OSError: that did not work (smtplib's errors are OSErrors too).
        """
        import smtplib
        import ssl

        made: smtplib.SMTP
        if self.security == "tls":
            context = ssl.create_default_context()
            made = smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_seconds, context=context)
        else:
            made = smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)
        with made as server:
            if self.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if self.user is not None and self.password_file is not None:
                lines = self.password_file.read_text(encoding="utf-8").splitlines()
                _login(server, self.user, lines[0] if lines else "")
            server.send_message(letter, sender, [recipient])


def _login(server: smtplib.SMTP, user: str, password: str) -> None:
    """Log in; smtplib alone does so with ASCII only (RFC 4616 is about UTF-8).

    Raises:
        OSError: it was refused.
    """
    if (user + password).isascii():
        server.login(user, password)
        return
    server.ehlo_or_helo_if_needed()
    words = base64.b64encode(b"\0".join((b"", user.encode(), password.encode()))).decode()
    code, reply = server.docmd("AUTH", f"PLAIN {words}")
    if code != 235:
        raise OSError(f"the SMTP server does not take the login ({code} {reply.decode('ascii', 'replace')})")


def message_id(message: bytes, address: str) -> str:
    """The Message-ID of the mail that carries a message from an address."""
    return f"<{hashlib.sha256(message).hexdigest()[:40]}.cmp@{address.rpartition('@')[2]}>"


def compose(message: bytes, sender: str, recipient: str, *, answers: str | None = None) -> EmailMessage:
    """The mail that carries a message.

    Args:
        answers: Message-ID of the request.
    """
    letter = EmailMessage(policy=policy.SMTP)
    letter["From"] = sender
    letter["To"] = recipient
    letter["Subject"] = "CMP" if answers is None else "Re: CMP"
    letter["Date"] = formatdate(usegmt=True)
    letter["Message-ID"] = message_id(message, sender)
    if answers is not None:
        letter["In-Reply-To"] = answers
        letter["References"] = answers
        letter["Auto-Submitted"] = "auto-replied"
    letter.set_content(message, "application", "pkixcmp", cte="base64", filename="message.pki")
    return letter


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """A request that came by mail.

    Attributes:
        message: DER, not looked at.
        sender: address that the answer goes to.
        id: its Message-ID, or None.
        label: what stands after ``+`` in the address that it went to, or None.
    """

    message: bytes
    sender: str
    id: str | None
    label: str | None


def parse_letter(content: bytes) -> EmailMessage:
    """A mail, or something like it: nothing here is refused.

    Raises:
        Unusable: it cannot even be read so.
    """
    try:
        return message_from_bytes(content, policy=policy.SMTP)
    except Exception as error:  # the parser is lenient by design, and not without bugs
        raise Unusable(f"it is no mail: {type(error).__name__}") from None


def _field(letter: EmailMessage, name: str) -> str:
    try:
        value = letter[name]
    except Exception:  # a header that the parser chokes on
        raise Unusable(f"its header field {name} cannot be read") from None
    return "" if value is None else " ".join(str(value).split())


def message_in(letter: EmailMessage, limit: int) -> bytes:
    """The one PKIMessage in a mail.

    Raises:
        Unusable: there is none, or are several, or it is too long.
    """
    found: list[bytes] = []
    try:
        for number, part in enumerate(letter.walk()):
            if number >= _MOST_PARTS:
                raise Unusable(f"it has more than {_MOST_PARTS} parts")
            if part.get_content_type() in MEDIA_TYPES:
                content = part.get_payload(decode=True)
                found.append(content if isinstance(content, bytes) else b"")
    except Unusable:
        raise
    except Exception as error:
        raise Unusable(f"its parts cannot be read: {type(error).__name__}") from None
    if len(found) != 1:
        raise Unusable(f"it has {len(found)} parts of type application/pkixcmp, and not one")
    if len(found[0]) > limit:
        raise Unusable(f"the message in it has more than {limit} bytes")
    return found[0]


def open_letter(content: bytes, own_address: str, limit: int) -> Letter:
    """A request, from a mail that may be answered.

    Raises:
        Unusable: it has no request, or must not be answered.
    """
    letter = parse_letter(content)
    if _field(letter, "Auto-Submitted").lower().partition(";")[0].strip() not in {"", "no"}:
        raise Unusable("a program sent it (Auto-Submitted)")
    if _field(letter, "Precedence").lower() in {"bulk", "junk", "list"} or _field(letter, "List-Id"):
        raise Unusable("it came by a mailing list")
    if letter.get_content_type() == "multipart/report" or _field(letter, "Return-Path") == "<>":
        raise Unusable("it is a mail that came back")
    sender = parseaddr(_field(letter, "From"))[1]
    local, at, domain = sender.rpartition("@")
    if not at or not local or not domain or not sender.isascii() or not sender.isprintable() or " " in sender:
        raise Unusable("it has no address to answer to")
    if sender.lower() == own_address.lower():
        raise Unusable("it is from ourselves")
    _, plus, label = parseaddr(_field(letter, "To"))[1].rpartition("@")[0].partition("+")
    name = _field(letter, "Message-ID")
    return Letter(
        message=message_in(letter, limit),
        sender=sender,
        id=name if name.isascii() and 2 < len(name) < 500 else None,
        label=label if plus and label else None,
    )
