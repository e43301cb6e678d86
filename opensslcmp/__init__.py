"""OpenSSL's CMP engine for Python: certificates by the Certificate Management Protocol (RFC 9810, RFC 9483).

Names are imported when they are first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from opensslcmp._version import __version__

if TYPE_CHECKING:
    from opensslcmp.asn1 import admit
    from opensslcmp.client.async_session import AsyncSession
    from opensslcmp.client.bulk import Order, Outcome
    from opensslcmp.client.context import Context
    from opensslcmp.client.failover import Retry
    from opensslcmp.client.journal import Journal
    from opensslcmp.client.pending import Pending
    from opensslcmp.client.results import Info, Issued, Protection, RecoveredKey, RequestTemplate, Revoked, RootCaUpdate
    from opensslcmp.client.session import Session
    from opensslcmp.context.certificates import Trust
    from opensslcmp.context.keys import PrivateKey
    from opensslcmp.context.library import Library
    from opensslcmp.context.protection import ProtectionKind, protect_message, verify
    from opensslcmp.credentials import KemCredential, MacParameters, SharedSecret, Signer
    from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
    from opensslcmp.errors import (
        BadMessage,
        CMPError,
        OpenSSLError,
        ProtectionError,
        Rejected,
        TimedOut,
        TransportError,
        Unsupported,
    )
    from opensslcmp.linked import features
    from opensslcmp.transport import TLS

__all__ = [
    "TLS",
    "AsyncSession",
    "BadMessage",
    "BodyType",
    "CMPError",
    "Context",
    "FailureInfo",
    "Info",
    "Issued",
    "Journal",
    "KemCredential",
    "Library",
    "MacParameters",
    "OpenSSLError",
    "Order",
    "Outcome",
    "PKIStatus",
    "Pending",
    "PrivateKey",
    "Protection",
    "ProtectionError",
    "ProtectionKind",
    "RecoveredKey",
    "Rejected",
    "RequestTemplate",
    "Retry",
    "RevocationReason",
    "Revoked",
    "RootCaUpdate",
    "Session",
    "SharedSecret",
    "Signer",
    "TimedOut",
    "TransportError",
    "Trust",
    "Unsupported",
    "__version__",
    "admit",
    "features",
    "protect_message",
    "verify",
]

_HOMES = {
    "asn1": ("admit",),
    "client.async_session": ("AsyncSession",),
    "client.bulk": ("Order", "Outcome"),
    "client.context": ("Context",),
    "client.failover": ("Retry",),
    "client.journal": ("Journal",),
    "client.pending": ("Pending",),
    "client.results": ("Info", "Issued", "Protection", "RecoveredKey", "RequestTemplate", "Revoked", "RootCaUpdate"),
    "client.session": ("Session",),
    "context.certificates": ("Trust",),
    "context.library": ("Library",),
    "context.keys": ("PrivateKey",),
    "context.protection": ("ProtectionKind", "protect_message", "verify"),
    "credentials": ("KemCredential", "MacParameters", "SharedSecret", "Signer"),
    "enums": ("BodyType", "FailureInfo", "PKIStatus", "RevocationReason"),
    "errors": (
        "BadMessage",
        "CMPError",
        "OpenSSLError",
        "ProtectionError",
        "Rejected",
        "TimedOut",
        "TransportError",
        "Unsupported",
    ),
    "linked": ("features",),
    "transport": ("TLS",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
