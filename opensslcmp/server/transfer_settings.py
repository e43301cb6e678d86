"""The table ``[transfers]``: the ways beside HTTP by which messages come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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

    Raises:
        ValueError: a value that makes no sense; the text names it.
    """

    http: bool = True
    tcp_port: int | None = None
    coap_port: int | None = None
    mailbox: Path | None = None

    def __post_init__(self) -> None:
        for name in ("tcp_port", "coap_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:
                raise WrongValue("is not between 0 and 65535", name)
        if not self.http and not self.others:
            raise WrongValue("is false, and there is no other way for messages to come", "http")

    @property
    def others(self) -> bool:
        """There are ways beside HTTP."""
        return any(each is not None for each in (self.tcp_port, self.coap_port, self.mailbox))
