"""A watched directory, the server's side: requests are taken from a ``Mailbox`` or a ``Maildir``, and answered there.

What a file gets, first match first:

==========================================================  ==========================================================
another worker has it                                       nothing
its name, size or kind is not that of a message             moved to rejected/, with a reason beside it
it is not one whole DER element, and older than 2 s         the same; younger ones are perhaps still being written
the server is busy or fails, or it was asked too often      it stays, and is taken again after 1, 2, 4 .. 60 s
it is an announcement                                       removed
anything else                                               removed once the responder's answer is in answers/
==========================================================  ==========================================================

Several workers, and several servers over one directory and one store, take turns. Looking is done every half second, and at
once while there is more than was taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from opensslcmp.asn1 import read_header
from opensslcmp.server.front import FrontEnd
from opensslcmp.server.http_service import Reply
from opensslcmp.server.maildir import Maildir
from opensslcmp.server.peer import Peer
from opensslcmp.transport.mailbox import Mailbox, Unusable

__all__ = ["MailboxFront", "is_final", "is_whole"]

T = TypeVar("T")

_MOST = 64
_SETTLED_SECONDS = 2.0
_MOST_WAIT_SECONDS = 60.0
_REFUSED = frozenset({400, 403})  # of announcements, which have no answer
_log = logging.getLogger("opensslcmp.server")


class MailboxFront:
    """Answers the files of a directory, on the running event loop.

    Args:
        front: where messages go.
        box: where requests come and answers go.
        look_seconds: how often to look for files.
    """

    def __init__(self, front: FrontEnd, box: Mailbox | Maildir, *, look_seconds: float = 0.5) -> None:
        self._front = front
        self._mailbox = box
        self._look_seconds = look_seconds
        self._limit = front.routes.max_request_bytes
        self._threads = ThreadPoolExecutor(4, "cmp-mailbox")
        self._tasks: dict[Path, asyncio.Task[bool]] = {}
        self._again: dict[Path, tuple[float, float]] = {}  # when, and how long it was waited
        self._over = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look.

        Raises:
            OSError: the directories cannot be made.
        """
        await self._do(self._mailbox.create)
        await self._do(self._mailbox.tidy)
        self._watching = asyncio.create_task(self._watch())

    async def _do(self, function: Callable[..., T], *arguments: Any) -> T:
        return await self._front.loop.run_in_executor(self._threads, partial(function, *arguments))

    async def change_tls(self, tls: ssl.SSLContext) -> None:
        """Files know no TLS."""

    async def drain(self, seconds: float) -> bool:
        """Take nothing more, and answer what was begun; False when ``seconds`` were not enough."""
        self._over.set()
        if self._watching is not None:
            await self._watching
        left = set(self._tasks.values())
        if left:
            _, left = await asyncio.wait(left, timeout=seconds)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        self._threads.shutdown(wait=False)
        return not left

    async def _watch(self) -> None:
        while not self._over.is_set():
            begun = 0
            try:
                begun = self._begin(await self._do(self._mailbox.waiting, 4096))
            except OSError as error:
                _log.error("the mailbox cannot be read: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    if begun:
                        await asyncio.wait(set(self._tasks.values()), return_when=asyncio.FIRST_COMPLETED)
                    else:
                        await self._over.wait()

    def _begin(self, found: list[tuple[Path, str | None]]) -> int:
        now = self._front.loop.time()
        there = {path for path, _ in found}
        self._again = {path: when for path, when in self._again.items() if path in there}
        begun = 0
        for path, label in found:
            if len(self._tasks) >= _MOST:
                break
            if path in self._tasks or self._again.get(path, (0.0, 0.0))[0] > now:
                continue
            task = self._tasks[path] = asyncio.create_task(self._take(path, label))
            task.add_done_callback(partial(self._taken, path))
            begun += 1
        return begun

    def _taken(self, path: Path, task: asyncio.Task[bool]) -> None:
        del self._tasks[path]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("a file of the mailbox was not answered: %s", path.name, exc_info=error)
        if error is None and task.result():
            self._again.pop(path, None)
            return
        wait = min(_MOST_WAIT_SECONDS, 2 * self._again.get(path, (0.0, 0.5))[1])
        self._again[path] = (self._front.loop.time() + wait, wait)

    async def _take(self, path: Path, label: str | None) -> bool:
        """Answer a file; False when it is to be taken again later."""
        with contextlib.ExitStack() as stack:
            try:
                content = await self._do(stack.enter_context, self._mailbox.claimed(path, self._limit))
                if content is None:
                    return True
                address, label, age = self._mailbox.describe(path, label)
                if not is_whole(content):
                    if age < _SETTLED_SECONDS:
                        return False
                    raise Unusable("it is not one PKIMessage in DER")
            except Unusable as error:
                _log.warning("the mailbox has a file that is no request: %r: %s", path.name, error)
                await self._do(self._mailbox.reject, path, str(error))
                return True
            except FileNotFoundError:
                return True
            reply = await self._front.ask(content, Peer(address=address, label=label))
            if not is_final(reply):
                return False
            if reply.status in _REFUSED:
                await self._do(self._mailbox.reject, path, reply.body.decode().strip())
            else:
                await self._do(self._mailbox.publish, path, reply.body)
        return True


def is_final(reply: Reply) -> bool:
    """The reply is the responder's answer, and not one that says to come again."""
    return reply.status in {200, 201, 202} | _REFUSED


def is_whole(content: bytes) -> bool:
    """It is one DER element, a SEQUENCE, and nothing else; what is in it is the responder's to judge."""
    try:
        tag, _, end = read_header(content, 0, len(content))
    except (ValueError, IndexError):
        return False
    return tag == 0x30 and end == len(content)
