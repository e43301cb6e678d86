"""The table ``[transfers]``: the ways beside HTTP by which messages come."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opensslcmp.server.tables import WrongValue

__all__ = ["TransferSettings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferSettings:
    """Ways beside HTTP by which messages come; none by default. docs/transfers.md tells of each. A change needs a restart.

    Attributes:
        http: serve HTTP as [server] says; it also gives CRLs, metrics and health.
        tcp_port: listen for CMP over TCP on this port of [server] ``host``, with TLS where [server] has a certificate;
            829 is the usual one, 0 picks a free one.
        coap_port: answer CMP over CoAP on this UDP port of [server] ``host``; 5683 is the usual one, 0 picks a free one.
        mailbox: directory whose ``requests`` are answered in ``answers``.
        maildir: Maildir whose mails are answered by SMTP from ``mail_address``.
        mail_address: the address that mails to the server have; goes with ``maildir``.
        smtp_host, smtp_port: of the SMTP server that takes answers.
        smtp_security: whether its connection is secured, and how.
        smtp_user: to log in as, over a secured connection.
        smtp_password_file: its first line is the password.

    Raises:
        ValueError: a value that makes no sense; the text names it.
    """

    http: bool = True
    tcp_port: int | None = None
    coap_port: int | None = None
    mailbox: Path | None = None
    maildir: Path | None = None
    mail_address: str | None = None
    smtp_host: str = "127.0.0.1"
    smtp_port: int = 25
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    smtp_user: str | None = None
    smtp_password_file: Path | None = None

    def __post_init__(self) -> None:
        for name in ("tcp_port", "coap_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:
                raise WrongValue("is not between 0 and 65535", name)
        if (self.maildir is None) != (self.mail_address is None):
            raise WrongValue("is needed beside the other", "maildir" if self.maildir is None else "mail_address")
        if self.mail_address is not None and not re.fullmatch(r"[!-?A-~]+@[A-Za-z0-9.-]+", self.mail_address):
            raise WrongValue("is not an address", "mail_address")
        if self.smtp_user is not None and (self.smtp_security == "none" or self.smtp_password_file is None):
            raise WrongValue("needs smtp_security and smtp_password_file", "smtp_user")
        if not self.http and not self.others:
            raise WrongValue("is false, and there is no other way for messages to come", "http")

    @property
    def others(self) -> bool:
        """There are ways beside HTTP."""
        return any(each is not None for each in (self.tcp_port, self.coap_port, self.mailbox, self.maildir))
