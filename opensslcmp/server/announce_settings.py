"""The table ``[announce]``: who is told of what without asking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opensslcmp.server.tables import WrongValue
from opensslcmp.transport import scheme_of

__all__ = ["AnnounceSettings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnounceSettings:
    """Who is told of what, without asking. A change needs a restart.

    Attributes:
        receivers: URLs, such as ``http://repository.example/.well-known/cmp``; none: nothing is announced.
        kinds: ``ckuann`` for a new key of the CA, ``rann`` for each revocation, ``crlann`` for each new CRL, ``cann`` for
            each certificate that was confirmed.
        retry_seconds: how long to wait before a receiver is tried again; it doubles, up to an hour.
        give_up_seconds: after which a notice is dropped.
        timeout_seconds: for each attempt.
        tls_trusted: PEM file of anchors of receivers by HTTPS; by default the system's.
    """

    receivers: tuple[str, ...] = ()
    kinds: tuple[Literal["ckuann", "rann", "crlann", "cann"], ...] = ("ckuann", "rann", "crlann")
    retry_seconds: float = 30.0
    give_up_seconds: float = 7 * 86400.0
    timeout_seconds: float = 30.0
    tls_trusted: Path | None = None

    def __post_init__(self) -> None:
        for each in self.receivers:
            if scheme_of(each) is None or ":" not in each:
                raise WrongValue(f"has {each}, which is no URL that there is a transport for", "receivers")
        for name in ("retry_seconds", "give_up_seconds", "timeout_seconds"):
            if getattr(self, name) <= 0:
                raise WrongValue("is not positive", name)
