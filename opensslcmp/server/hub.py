"""How ``Responder.handle_async`` runs ``handle``: in a greenlet on the event loop's thread, which gives way where it waits.

1. ``Hub.start`` runs a plain function in a greenlet. It gets a Responder whose store and authority are stand-ins.
2. ``commit`` of the stand-in leaves its ``Change`` with the hub and switches to the loop. Everything that was left in one
   turn of the loop goes into one ``Store.commit_many``, so into one fsync, and each greenlet goes on with its outcome: an
   answer leaves only after what it says is durable.
3. A method of the authority may be a coroutine function: what it returns is awaited as a task of its own. What blocks is
   run in threads by ``InThreads``. ``publish`` is always run in a thread: a long CRL takes its time.
4. A transactionID is claimed by one greenlet at a time; the others sleep. Threads and processes are told apart by the
   commit (``Conflict``).

A message that was begun is finished: who awaited its answer and was cancelled finds it when asking again.

A commit that is short runs on the loop's own thread. A commit in a thread costs 60 to 100 microseconds of CPU in two
hand-overs, and brings nothing while others need that CPU: a commit to a local disk took 0.4 ms. Where commits take more
than 2 ms on average, a slow disk or a database over the network, those of several messages run in a thread, and the next
messages are verified meanwhile; one message has nobody beside it.

No frame in a greenlet refers to that greenlet (``_native/callbacks.py`` says why): the hub holds it, in ``resume``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload
from weakref import WeakKeyDictionary, ref

import greenlet

from opensslcmp.asn1 import InfoTypeAndValue
from opensslcmp.server.authority import (
    Authority,
    CertificateRequest,
    InfoRequest,
    Issued,
    Pending,
    Publisher,
    RevocationRequest,
)
from opensslcmp.server.store import Change, Conflict, Store

if TYPE_CHECKING:
    from opensslcmp.server.peer import Peer
    from opensslcmp.server.responder import Responder

__all__ = ["Hub", "InThreads", "current_hub", "settle"]

T = TypeVar("T")
Resume: TypeAlias = Callable[[Any, BaseException | None], None]
"""Goes on with a greenlet: with a value, or with what is to be raised in it."""

_SHORT_SECONDS = 0.002
_LONG_SECONDS = 0.05
_MOST_CHANGES = 256
_log = logging.getLogger("opensslcmp.server")
_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


class _Worker(greenlet.greenlet):
    """A greenlet of a hub."""

    hub: Hub


def current_hub() -> Hub | None:
    """The hub that runs what calls this; None outside of ``handle_async``."""
    current = greenlet.getcurrent()
    return current.hub if isinstance(current, _Worker) else None


def _sleep(arm: Callable[[Resume], object]) -> Any:
    """Give way; ``arm`` is called outside and sees to it that we go on."""
    parent = greenlet.getcurrent().parent
    assert parent is not None
    return parent.switch(arm)


@overload
def settle(value: Awaitable[T]) -> T: ...
@overload
def settle(value: T) -> T: ...
def settle(value: Any) -> Any:
    """A value, awaited when it is to be awaited. For what ``handle_async`` runs.

    Raises:
        TypeError: it is to be awaited, and ``handle`` runs us instead of ``handle_async``.
        Exception: what the awaitable raises.
    """
    if not isawaitable(value):
        return value
    hub = current_hub()
    if hub is None:
        if asyncio.iscoroutine(value):
            value.close()
        raise TypeError("only handle_async awaits what an authority returns")
    return _sleep(partial(hub.watch, value))


class Hub:
    """The greenlets of one event loop (asyncio's, or one like it). It does not keep the loop alive."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()
        self._commits: WeakKeyDictionary[Store, _Commits] = WeakKeyDictionary()
        self._claimed: dict[bytes, deque[Resume]] = {}
        self._stand_ins: tuple[_SharedStore, _Awaited] | None = None

    @staticmethod
    def here() -> Hub:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        found = _hubs.get(loop)
        if found is None:
            found = _hubs[loop] = Hub()
        return found

    # -- greenlets -----------------------------------------------------------------------------------------------

    def start(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], object]) -> None:
        """Run ``work`` in a greenlet, up to where it waits first; ``done`` gets its result or what it raised."""
        worker = _Worker(work)
        worker.hub = self
        worker.gr_context = contextvars.copy_context()
        self._go(worker, done, None, None, begun=False)

    def _go(
        self,
        worker: _Worker,
        done: Callable[[Any, BaseException | None], object],
        value: Any,
        error: BaseException | None,
        begun: bool = True,
    ) -> None:
        worker.parent = greenlet.getcurrent()
        try:
            if error is not None:
                arm = worker.throw(error)
            elif begun:
                arm = worker.switch(value)
            else:
                arm = worker.switch()
        except (
            BaseException
        ) as raised:  # SystemExit too: one message ends no server, and others wait for their turn here
            _finish(done, None, _as_exception(raised))
            return
        if isinstance(arm, greenlet.GreenletExit):  # raised in it; greenlet hands it out as a result
            _finish(done, None, _as_exception(arm))
        elif worker.dead:
            _finish(done, arm, None)
        else:
            arm(partial(self._go, worker, done))

    def watch(self, awaitable: Awaitable[Any], resume: Resume) -> None:
        """Await in a task, then go on."""
        task = asyncio.ensure_future(_contained(awaitable))
        self._tasks.add(task)  # asyncio itself holds tasks weakly

        def over(task: asyncio.Future[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                resume(None, RuntimeError("what the authority awaited was cancelled"))
            elif (error := task.exception()) is not None:
                resume(None, error)
            else:
                resume(task.result(), None)

        task.add_done_callback(over)

    # -- messages ------------------------------------------------------------------------------------------------

    def handle(self, responder: Responder, der: bytes, peer: Peer) -> asyncio.Future[bytes]:
        """The answer to come; ``Responder.handle_async``."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(result: bytes | None, error: BaseException | None) -> None:
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            elif result is not None:
                answer.set_result(result)

        self.begin(responder, der, peer, done)
        return answer

    def begin(
        self,
        responder: Responder,
        der: bytes,
        peer: Peer,
        done: Callable[[bytes | None, BaseException | None], object],
    ) -> None:
        """Begin to answer a message; ``done`` is called with the answer, perhaps at once."""
        store, authority = responder.store, responder.authority
        if (
            self._stand_ins is None
            or self._stand_ins[0].store is not store
            or self._stand_ins[1].authority is not authority
        ):
            self._stand_ins = _SharedStore(store, self), _Awaited(authority)
        twin = responder.beside(*self._stand_ins)
        if responder.sweep_is_due():
            self.start(twin.sweep, _swept)
        self.start(partial(twin.handle, der, peer), done)

    def commit(self, store: Store, change: Change) -> None:
        """In a greenlet: make a change durable together with others.

        Raises:
            Conflict: as ``Store.commit``.
        """
        commits = self._commits.get(store)
        if commits is None:
            commits = self._commits[store] = _Commits(store)
        conflict = _sleep(partial(commits.add, change))
        if conflict is not None:
            raise conflict

    @contextlib.contextmanager
    def claim(self, transaction_id: bytes) -> Iterator[None]:
        """In a greenlet: keep other greenlets away from a transactionID."""
        queue = self._claimed.get(transaction_id)
        if queue is None:
            self._claimed[transaction_id] = deque()
        else:
            _sleep(queue.append)
        try:
            yield
        finally:
            waiting = self._claimed[transaction_id]
            if waiting:
                asyncio.get_running_loop().call_soon(waiting.popleft(), None, None)
            else:
                del self._claimed[transaction_id]


async def _contained(awaitable: Awaitable[T]) -> T:
    """As this; what would end the loop when it leaves a task is a failure like others."""
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt, greenlet.GreenletExit) as error:
        raise _as_exception(error) from error


def _as_exception(error: BaseException) -> Exception:
    """What is no ``Exception`` as one: it is told to who waits, and ends neither the loop nor a task of his."""
    if isinstance(error, Exception):
        return error
    told = RuntimeError(f"a message ended with {type(error).__name__}")
    told.__cause__ = error
    return told


def _finish(done: Callable[[Any, BaseException | None], object], value: Any, error: BaseException | None) -> None:
    try:
        done(value, error)
    except Exception:  # of whoever waits for this one; the others that were committed with it go on
        _log.exception("an answer could not be handed over")


def _swept(_ended: int | None, error: BaseException | None) -> None:
    if error is not None:
        _log.error("sweeping failed", exc_info=error)


_Committed: TypeAlias = tuple[float, list[Conflict | None]]


def _outcome(future: Future[_Committed]) -> _Committed | BaseException:
    error = future.exception()
    return future.result() if error is None else error


class _Commits:
    """The changes of one turn of the loop, on their way into one transaction of the store."""

    def __init__(self, store: Store) -> None:
        self._store = ref(store)  # whoever waits for a commit has it
        self._waiting: deque[tuple[Change, Resume]] = deque()
        self._scheduled = False
        self._threads: ThreadPoolExecutor | None = None
        self._average_seconds = 0.0

    def add(self, change: Change, resume: Resume) -> None:
        self._waiting.append((change, resume))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_CHANGES))]
        changes = [change for change, _ in batch]
        resumes = [resume for _, resume in batch]
        if self._average_seconds < (_SHORT_SECONDS if len(batch) > 1 else _LONG_SECONDS):
            try:
                done = self._timed(changes)
            except Exception as error:
                self._flushed(resumes, error)
            else:
                self._flushed(resumes, done)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "cmp-commit")
        loop = asyncio.get_running_loop()
        self._threads.submit(self._timed, changes).add_done_callback(
            lambda future: loop.call_soon_threadsafe(self._flushed, resumes, _outcome(future))
        )

    def _timed(self, changes: list[Change]) -> tuple[float, list[Conflict | None]]:
        store = self._store()
        assert store is not None
        began = time.perf_counter()
        outcomes = store.commit_many(changes)
        return time.perf_counter() - began, outcomes

    def _flushed(self, resumes: list[Resume], done: _Committed | BaseException) -> None:
        self._scheduled = bool(self._waiting)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        if isinstance(done, BaseException):
            for resume in resumes:
                resume(None, done)
            return
        seconds, outcomes = done
        self._average_seconds += (seconds - self._average_seconds) / 8
        for resume, outcome in zip(resumes, outcomes, strict=True):
            resume(outcome, None)


class _SharedStore:
    """A store for greenlets of a hub; what it does not change is the store's own."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self.store = store
        self._hub = hub
        self.claim = hub.claim
        # Asked for each message: found here, and not by way of __getattr__.
        self.look, self.certificate, self.open_transactions = store.look, store.certificate, store.open_transactions

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def commit(self, change: Change) -> None:
        """As ``Store.commit``, together with others."""
        self._hub.commit(self.store, change)


class _Awaited:
    """An authority whose methods may be coroutine functions, for greenlets of a hub."""

    def __init__(self, authority: Any) -> None:
        self.authority = authority

    def __getattr__(self, name: str) -> Any:
        return getattr(self.authority, name)

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        """As ``Authority.issue``."""
        result: Issued | Pending = settle(self.authority.issue(request))
        return result

    def confirm(self, issued: Issued, accepted: bool) -> Pending | None:
        """As ``Authority.confirm``."""
        result: Pending | None = settle(self.authority.confirm(issued, accepted))
        return result

    def revoke(self, request: RevocationRequest) -> Pending | None:
        """As ``Authority.revoke``."""
        result: Pending | None = settle(self.authority.revoke(request))
        return result

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue] | Pending:
        """As ``Authority.info``."""
        result: list[InfoTypeAndValue] | Pending = settle(self.authority.info(request))
        return result

    def publish(self) -> None:
        """As ``Publisher.publish``, in a thread; nothing when the authority does not publish."""
        if isinstance(self.authority, Publisher):
            done: Awaitable[None] = asyncio.get_running_loop().run_in_executor(None, self.authority.publish)
            settle(done)


class InThreads:
    """An authority that blocks, such as an RA that asks a CA over the network, for ``handle_async``.

    Its methods run in threads, and other messages are answered meanwhile. Under ``handle`` they are called straight.

    Args:
        authority: any.
        threads: how many of its calls run at once.
    """

    def __init__(self, authority: Authority, threads: int = 32) -> None:
        self.authority = authority
        self._threads = ThreadPoolExecutor(threads, "cmp-authority")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.authority, name)

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        """As ``Authority.issue``."""
        return self._call(self.authority.issue, request)

    def confirm(self, issued: Issued, accepted: bool) -> Pending | None:
        """As ``Authority.confirm``."""
        return self._call(self.authority.confirm, issued, accepted)

    def revoke(self, request: RevocationRequest) -> Pending | None:
        """As ``Authority.revoke``."""
        return self._call(self.authority.revoke, request)

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue] | Pending:
        """As ``Authority.info``."""
        return self._call(self.authority.info, request)

    def publish(self) -> None:
        """As ``Publisher.publish``; nothing when the authority does not publish."""
        if isinstance(self.authority, Publisher):
            self.authority.publish()

    def close(self) -> None:
        """End the threads once they are done."""
        self._threads.shutdown()

    def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        if current_hub() is None:
            return function(*arguments)
        done: Awaitable[T] = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))
        return settle(done)
