"""An operation from start to end: ``Context`` is configuration, ``Session`` runs transactions."""

from opensslcmp.client.context import Context, NameSource
from opensslcmp.client.exchange import Waits
from opensslcmp.client.results import Info, Issued, Protection, RequestTemplate, Revoked, RootCaUpdate
from opensslcmp.client.session import Session

__all__ = [
    "Context",
    "Info",
    "Issued",
    "NameSource",
    "Protection",
    "RequestTemplate",
    "Revoked",
    "RootCaUpdate",
    "Session",
    "Waits",
]
