"""How ``AsyncSession`` runs an operation: in a greenlet, which asks the event loop for whatever takes time.

1. ``run`` starts the operation in a greenlet of its own, with ``WAITS`` as its two seams.
2. Where the operation waits it switches to the greenlet of the event loop with a wish: a name and arguments.
3. ``run``, a coroutine of the caller's task, fulfils the wish: it sends, sleeps, or calls the caller's ``confirm``, awaiting
   what can be awaited. It switches back with the result, or throws the exception in, whole.
4. The operation returns or raises; so does ``run``.

Everything of the caller's runs in step 3, as a part of his task: context variables, ``current_task`` and cancel scopes are
his. The greenlet knows names only, so a circle through a callback or a transport stays visible to Python's collector, which
cannot look into a sleeping greenlet (the rules are in ``_native/callbacks.py``).

Cancelled, ``run`` throws the cancellation in. The operation unwinds and its ``Transaction`` tells the peer; that last
exchange is shielded from the same cancel scope and limited in time. When the coroutine is closed or collected nobody can
wait any more: the operation ends by ``GreenletExit``, and the peer learns nothing.

A greenlet, and not a generator for each operation: it is what lets OpenSSL wait inside C (``run_enrollment``), and the
operations stay plain functions that ``Session`` calls as they are.

Needs the extra ``async``; nothing else in the package imports this module but ``AsyncSession``, when it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from inspect import isawaitable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import greenlet

from opensslcmp.client.bulk import Outcome
from opensslcmp.client.exchange import Waits
from opensslcmp.client.journal import Entry, Journal
from opensslcmp.client.results import Issued
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.library import Library
from opensslcmp.errors import TimedOut

__all__ = ["WAITS", "Outside", "Way", "Writer", "ask_to_confirm", "beside_the_loop", "in_tasks", "run"]

T = TypeVar("T")


def _ask(name: str, *about: Any) -> Any:
    """Sleep until ``run`` has done what is wished for; called by the operation."""
    # Not by way of a name for our own greenlet: while we sleep, no frame of ours may refer to it.
    loop = greenlet.getcurrent().parent
    assert loop is not None
    return loop.switch((name, about))


def _exchange(request: bytes, timeout_seconds: float) -> bytes:
    answer: bytes = _ask("exchange", request, timeout_seconds)
    return answer


def _sleep(seconds: float) -> None:
    _ask("sleep", seconds)


def _generate(kind: str, library: Library | None) -> PrivateKey:
    if not kind.lower().startswith("rsa"):
        return PrivateKey.generate(kind, library=library)
    key: PrivateKey = _ask("beside_the_loop", kind, library)
    return key


def _record(entry: Entry) -> None:
    _ask("record", entry)


@lru_cache(maxsize=64)
def _to(server: int) -> Callable[[bytes, float], bytes]:
    """``exchange`` with another server than the first."""

    def exchange(request: bytes, timeout_seconds: float) -> bytes:
        answer: bytes = _ask("exchange", request, timeout_seconds, server)
        return answer

    return exchange


WAITS = Waits(_exchange, _sleep, generate=_generate)
"""The seams of every operation that ``run`` runs."""


def ask_to_confirm(issued: Issued) -> None:
    """What an operation gets as ``confirm``: the caller's function is ``run``'s to call."""
    _ask("confirm", issued)


class Writer:
    """Writes entries of a journal in a thread; those that come meanwhile go together the next time, with one fsync.

    Args:
        journal: for one event loop at a time.
    """

    __slots__ = ("_busy", "_next", "journal")

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._busy = False
        self._next: anyio.Event | None = None

    async def write(self, entry: Entry) -> None:
        """On return the entry is on the disk; as ``Journal.record``."""
        writing = self.journal.enqueue(entry)
        while not writing.done:
            if self._busy:
                self._next = self._next or anyio.Event()
                await self._next.wait()
                continue
            self._busy = True
            try:
                # It would be written anyhow, and whoever wakes up must find it so.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self.journal.write, writing)
            finally:
                self._busy = False
                waiting, self._next = self._next, None
                if waiting is not None:
                    waiting.set()
        self.journal.write(writing)


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach a server.

    Attributes:
        send: carries a message to the peer and brings its answer, within so many seconds. It may be async or not.
        keeps_time: ``send`` raises ``TimedOut`` by itself; else an async one is ended by us.
    """

    send: Callable[[bytes, float], Any]
    keeps_time: bool = True


@dataclass(frozen=True, slots=True)
class Outside:
    """What is the caller's, and called by ``run`` in the caller's task. Each function may be async or not.

    Attributes:
        ways: to each of the servers.
        sleep: waits so many seconds.
        confirm: looks at a new certificate.
        journal: writes entries.
    """

    ways: tuple[Way, ...]
    sleep: Callable[[float], Any] = anyio.sleep
    confirm: Callable[[Issued], Any] | None = None
    journal: Writer | None = None

    @property
    def waits(self) -> Waits:
        """The seams of an operation that has more than one server, or a journal."""
        if self.journal is None and len(self.ways) == 1:
            return WAITS
        others = tuple(_to(server) for server in range(1, len(self.ways)))
        if self.journal is None:
            return replace(WAITS, others=others)
        return replace(WAITS, others=others, journal=self.journal.journal, record=_record)


async def run(outside: Outside, operation: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """The result of ``operation(WAITS, *arguments, **options)``.

    Args:
        outside: fulfils its wishes.
        operation: a plain function that waits by ``Waits`` only.
        arguments, options: for the operation.

    Raises:
        Exception: what the operation raises.
    """
    worker = greenlet.greenlet(operation)
    broken_off = False
    task = _task()
    try:
        wish = worker.switch(outside.waits, *arguments, **options)
        del arguments, options
        while not worker.dead:
            name, about = wish
            try:
                if name == "exchange":
                    result: Any = await _carried(outside.ways, *about, broken_off=broken_off)
                elif name == "record":
                    assert outside.journal is not None
                    await outside.journal.write(*about)
                    result = None
                elif name == "beside_the_loop":
                    result = await beside_the_loop(*about)
                else:
                    result = getattr(outside, name)(*about)
                    if isawaitable(result):
                        result = await result
            except BaseException as error:
                if isinstance(error, GeneratorExit) or _task() != task:
                    raise GeneratorExit from None
                broken_off = broken_off or not isinstance(error, Exception)
                worker.parent = greenlet.getcurrent()
                wish = worker.throw(type(error), error, error.__traceback__)
            else:
                worker.parent = greenlet.getcurrent()
                wish = worker.switch(result)
        done: T = wish
        return done
    finally:
        if not worker.dead:
            # Only its own thread can unwind it; dropped by another one, it waits for that thread to do so.
            with contextlib.suppress(greenlet.error):
                worker.throw()


def _task() -> int | None:
    """The task that runs; another one, or none, when the collector closes a coroutine whose task is gone.

    Then cancel scopes inside it make a ``RuntimeError`` of ``GeneratorExit``, as they have no task to return to.
    """
    try:
        return anyio.get_current_task().id
    except RuntimeError:
        return None


async def _carried(
    ways: tuple[Way, ...], request: bytes, seconds: float, server: int = 0, *, broken_off: bool
) -> bytes:
    way = ways[server]
    answer = way.send(request, seconds)
    if not isawaitable(answer):
        if not broken_off:
            # Else thousands of enrollments in this process would keep everything else waiting.
            await anyio.lowlevel.checkpoint()
        return bytes(answer)
    if way.keeps_time and not broken_off:
        # A cancel scope costs 1 kB, and anyio (4.16) keeps a task for ever whose loop is closed while it is in one.
        return bytes(await answer)
    with anyio.move_on_after(seconds, shield=broken_off):
        return bytes(await answer)
    raise TimedOut(f"no answer within {seconds:g} seconds")


async def beside_the_loop(kind: str, library: Library | None) -> PrivateKey:
    """A new key, made in a thread: RSA takes up to seconds, in which nothing else would happen."""
    return await anyio.to_thread.run_sync(lambda: PrivateKey.generate(kind, library=library))


class _Crew:
    """Tasks that outlive the call that starts them, on asyncio and trio, and end when they are told to."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: list[tuple[Callable[[], Any], Callable[[], Awaitable[Any]]]] = []

    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it; it must not raise."""
        trio = sys.modules.get("trio")
        if trio is None or not trio.lowlevel.in_trio_run():
            task = asyncio.get_running_loop().create_task(function())
            self._members.append((task.cancel, partial(asyncio.wait, [task])))
            return
        scope, done = trio.CancelScope(), trio.Event()

        async def run_it() -> None:
            try:
                with scope:
                    await function()
            finally:
                done.set()

        # Not of a nursery: a generator cannot keep one open while it yields.
        trio.lowlevel.spawn_system_task(run_it, context=contextvars.copy_context())
        self._members.append((scope.cancel, done.wait))

    async def stop(self) -> None:
        """Cancel all, and wait until they have ended."""
        for cancel, _ in self._members:
            cancel()
        with anyio.CancelScope(shield=True):
            for _, wait in self._members:
                await wait()


def in_tasks(
    outside: Outside,
    fulfil_one: Callable[..., Outcome],
    context: Any,
    jobs: Iterable[Any] | AsyncIterable[Any],
    concurrency: int,
) -> AsyncIterator[Outcome]:
    """Outcomes in the order of their arrival, by ``concurrency`` tasks.

    Raises:
        ValueError: ``concurrency`` is less than 1.
        Exception: what ``jobs`` raises, after the outcomes of what was begun.
    """
    if concurrency < 1:
        raise ValueError("concurrency must be at least 1")
    return _in_tasks(outside, fulfil_one, context, jobs, concurrency)


async def _in_tasks(
    outside: Outside,
    fulfil_one: Callable[..., Outcome],
    context: Any,
    jobs: Iterable[Any] | AsyncIterable[Any],
    concurrency: int,
) -> AsyncIterator[Outcome]:
    sender, receiver = anyio.create_memory_object_stream[Any](concurrency)
    taking = anyio.Lock()
    later = aiter(jobs) if isinstance(jobs, AsyncIterable) else None
    now = None if isinstance(jobs, AsyncIterable) else iter(jobs)
    crew = _Crew()
    exhausted = False
    failure: Exception | None = None

    async def work(sending: Any) -> None:
        nonlocal exhausted, failure
        with sending:
            while True:
                async with taking:
                    if exhausted:
                        return
                    try:
                        job = await anext(later) if later is not None else next(now)  # type: ignore[arg-type]
                    except (StopIteration, StopAsyncIteration):
                        exhausted = True
                        return
                    except Exception as error:
                        exhausted, failure = True, error
                        return
                await sending.send(await run(outside, fulfil_one, context, job))

    try:
        with sender:
            for _ in range(concurrency):
                crew.start(partial(work, sender.clone()))
        with receiver:
            async for outcome in receiver:
                yield outcome
        if failure is not None:
            raise failure
    finally:
        await crew.stop()
