"""An operation from start to end: ``Context`` is configuration, ``Session`` and ``AsyncSession`` run transactions."""

from opensslcmp.client.async_session import AsyncSession
from opensslcmp.client.bulk import Order, Outcome
from opensslcmp.client.context import Context, NameSource
from opensslcmp.client.exchange import Waits
from opensslcmp.client.failover import Retry
from opensslcmp.client.journal import Journal
from opensslcmp.client.pending import Pending
from opensslcmp.client.results import Info, Issued, Protection, RecoveredKey, RequestTemplate, Revoked, RootCaUpdate
from opensslcmp.client.session import Session

__all__ = [
    "AsyncSession",
    "Context",
    "Info",
    "Issued",
    "Journal",
    "NameSource",
    "Order",
    "Outcome",
    "Pending",
    "Protection",
    "RecoveredKey",
    "RequestTemplate",
    "Retry",
    "Revoked",
    "RootCaUpdate",
    "Session",
    "Waits",
]
