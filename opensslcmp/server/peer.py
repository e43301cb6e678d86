"""Who is at the other end of the transport, as far as the transport knows."""

from dataclasses import dataclass

__all__ = ["Peer"]


@dataclass(frozen=True, slots=True)
class Peer:
    """What came with a message besides the message; each may be unknown.

    Attributes:
        address: of the peer, for logs.
        label: ``<label>`` of ``/.well-known/cmp/p/<label>`` (RFC 9811, 3.4).
        operation: ``<operation>`` of the path, such as ``initialization``.
        tls_certificate: DER of the client certificate that TLS verified.
    """

    address: str | None = None
    label: str | None = None
    operation: str | None = None
    tls_certificate: bytes | None = None
