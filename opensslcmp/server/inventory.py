"""Who gets which certificate: what a registration authority looks up before it asks its CA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from opensslcmp.asn1 import Extension
from opensslcmp.server.authority import CertificateRequest, Pending

__all__ = ["Grant", "Inventory"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What is granted; the request as it is, but for what is said here.

    Attributes:
        subject: DER of the Name, in place of the one asked for.
        extensions: in place of those asked for.
        profile: certProfile for the CA, in place of the one named.
        text: what was changed, for people.
    """

    subject: bytes | None = None
    extensions: tuple[Extension, ...] | None = None
    profile: str | None = None
    text: str = "changed by the registration authority"

    @property
    def changes_template(self) -> bool:
        """The template is not what the entity asked for."""
        return self.subject is not None or self.extensions is not None


class Inventory(Protocol):
    """Knows who gets what. May be called from several threads at once."""

    def decide(self, request: CertificateRequest) -> Grant | Pending:
        """What is granted, or "later".

        Raises:
            Rejected: it is refused.
        """
