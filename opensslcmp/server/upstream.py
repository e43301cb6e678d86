"""The way from a registration authority to its CA: transports for both ways to wait, and what was sent, in the RA's store.

What goes upstream is written down first: ``Ledger`` is the client's journal (``client.journal``) kept in a ``Store``, so that
whichever worker of the RA is asked next goes on with it. There is one page for each request of an entity, found by what
names that request downstream. A worker that dies leaves the bytes it sent, or was about to send; the next one sends the same
bytes, to which a CA gives the answer that it gave.

A page is kept as a closed transaction under an id that is longer than any that a message may have.

Under ``Responder.handle_async`` all this gives way to other messages where it waits (``hub``); no thread is needed where the
transport is asynchronous.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from opensslcmp.client.context import Context
from opensslcmp.client.exchange import Waits
from opensslcmp.client.journal import Entry, State
from opensslcmp.enums import BodyType
from opensslcmp.errors import TransportError
from opensslcmp.server.store import Change, Store, Transaction, TransactionState
from opensslcmp.transport import as_async_transport, as_transport

__all__ = ["Ledger", "Page", "Upstream", "Writer", "give_way", "place_of"]

T = TypeVar("T")
_IDENTITY = b"upstream"
_MARK = b"opensslcmp registration authority upstream page, longer than ids "


def _in_greenlet() -> bool:
    # Imported by whoever uses it; who does not may lack greenlet.
    hub = sys.modules.get("opensslcmp.server.hub")
    return hub is not None and hub.current_hub() is not None


def give_way(function: Callable[..., T], *arguments: Any) -> T:
    """What a function that blocks returns; in a thread while other messages are answered, under ``handle_async``."""
    if not _in_greenlet():
        return function(*arguments)
    from opensslcmp.server.hub import settle

    return settle(asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments)))


def place_of(transaction_id: bytes, *parts: object) -> bytes:
    """Where the page is of what an entity asked for in this transaction."""
    words = b"\0".join(str(part).encode() for part in parts)
    return _MARK + hashlib.sha256(transaction_id + b"\0" + words).digest()


class Upstream:
    """Carries messages to a CA. May be used by several threads and event loops at once.

    Args:
        context: who we are to the CA, and whom we believe.
        transport: as for ``Session``, one or several; by default HTTP to the context's servers.
        async_transport: as for ``AsyncSession``, for ``handle_async``; by default HTTP as well when there is no
            ``transport``, else ``transport`` is used in threads.
    """

    def __init__(self, context: Context, transport: Any = None, async_transport: Any = None) -> None:
        self.context = context
        ways = context.transports() if transport is None else transport
        self._ways = [as_transport(each) for each in _several(ways)]
        self._given = (
            None if async_transport is None else [as_async_transport(each) for each in _several(async_transport)]
        )
        self._default = transport is None and async_transport is None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._for_loop: Sequence[Any] = ()

    def send(self, server: int, request: bytes, timeout_seconds: float) -> bytes:
        """The answer of the server with this number.

        Raises:
            TransportError: there is none.
        """
        if not _in_greenlet():
            return self._ways[server].send(request, timeout_seconds)
        from opensslcmp.server.hub import settle

        if self._given is not None:
            return settle(self._given[server].send(request, timeout_seconds))
        if self._default:
            answer: bytes = settle(self._asynchronous()[server].send(request, timeout_seconds))
            return answer
        return give_way(self._ways[server].send, request, timeout_seconds)

    def pass_on(self, request: bytes) -> bytes:
        """The answer to a message that may be sent as often as need be: of the first server that can be reached.

        Raises:
            TransportError: none can, or one gave no answer.
        """
        last = len(self._ways) - 1
        for server in range(last):
            try:
                return self.send(server, request, self.context.message_timeout_seconds)
            except TransportError as error:
                if error.sent:
                    raise
        return self.send(last, request, self.context.message_timeout_seconds)

    def _asynchronous(self) -> Sequence[Any]:
        """HTTP transports of the running loop; those of a loop that ended are left to be collected."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._for_loop = loop, self.context.async_transports()
        return self._for_loop

    def _sleep(self, seconds: float) -> None:
        if not _in_greenlet():
            time.sleep(seconds)
            return
        from opensslcmp.server.hub import settle

        settle(asyncio.sleep(seconds))

    def waits(self, writer: Writer | None = None) -> Waits:
        """For the operations of ``client.operations``; ``writer`` writes down what is about to be sent."""
        if writer is None:
            ways = [partial(self.send, number) for number in range(len(self._ways))]
            return Waits(ways[0], self._sleep, others=tuple(ways[1:]))
        ways = [partial(self._noted, writer, number) for number in range(len(self._ways))]
        return Waits(ways[0], self._sleep, others=tuple(ways[1:]), record=writer.record)

    def _noted(self, writer: Writer, server: int, request: bytes, timeout_seconds: float) -> bytes:
        try:
            return self.send(server, request, timeout_seconds)
        except TransportError as error:
            writer.sent = writer.sent or error.sent
            raise

    def close(self) -> None:
        """Close the connections of the context."""
        self.context.close()


def _several(ways: Any) -> Sequence[Any]:
    return ways if isinstance(ways, (list, tuple)) else [ways]


@dataclass(frozen=True, slots=True)
class Page:
    """What the ledger has of one request.

    Attributes:
        entry: as the client's journal has it.
        ask_after: seconds since 1970 before which the CA need not be asked again.
        transaction: as which it is stored.
    """

    entry: Entry
    ask_after: float
    transaction: Transaction


class Ledger:
    """The pages of a registration authority, in its store. As safe between threads and processes as the store.

    Args:
        store: of the RA's Responder.
        keep_seconds: how long a page is kept after its last change.
        clock: seconds since 1970.
    """

    def __init__(self, store: Store, keep_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._keep_seconds = keep_seconds
        self._clock = clock

    def find(self, place: bytes) -> Page | None:
        """What is written there."""
        found, _ = self._store.look(place, b"")
        if found is None or found.pending is None:
            return None
        entry = Entry(
            transaction_id=place,
            state=State(found.algorithm),
            pending=found.pending,
            message=found.request,
            recorded=found.expires - self._keep_seconds,
        )
        return Page(entry, found.deadline, found)

    def writer(self, place: bytes, page: Page | None) -> Writer:
        """Writes there, as long as nobody else does."""
        return Writer(self, place, None if page is None else page.transaction)

    def commit(self, place: bytes, before: Transaction | None, entry: Entry, ask_after: float) -> Transaction:
        """Write an entry down.

        Raises:
            Conflict: another worker did before.
        """
        now = self._clock()
        message, pending = entry.message, entry.pending
        if entry.state is State.FAILED and before is not None and before.pending is not None:
            # Asked again, the CA is sent the same once more, and refuses it with the same words.
            message, pending = before.request, before.pending
        after = Transaction(
            transaction_id=place,
            identity=_IDENTITY,
            algorithm=entry.state.value,
            body_type=BodyType.IR,
            state=TransactionState.CLOSED,
            nonce=b"",
            nonces=b"",
            deadline=ask_after,
            expires=now + self._keep_seconds,
            request=message,
            pending=pending,
            version=1 if before is None else before.version + 1,
        )
        change = Change(transaction=after, previous=before, now=now)
        if _in_greenlet():
            from opensslcmp.server.hub import Hub

            Hub.here().commit(self._store, change)
        else:
            self._store.commit(change)
        return after


class Writer:
    """Writes one page, each time what follows the last.

    Attributes:
        sent: a message may have reached the CA, in this turn or an earlier one, and no answer came.
    """

    def __init__(self, ledger: Ledger, place: bytes, before: Transaction | None) -> None:
        self._ledger = ledger
        self._place = place
        self._before = before
        self.sent = before is not None

    def record(self, entry: Entry, ask_after: float = 0.0) -> None:
        """Make it durable.

        Raises:
            Conflict: another worker wrote here.
        """
        self._before = self._ledger.commit(self._place, self._before, entry, ask_after)
