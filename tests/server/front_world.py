"""A front end in a thread of this process, and raw sockets to it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from opensslcmp.server.app import App
from opensslcmp.server.front import Bounds, FrontEnd
from opensslcmp.server.peer import Peer
from tests.server.web_client import read_response

T = TypeVar("T")


class Gate:
    """A responder that echoes; a message that begins with "wait" waits until ``open`` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked: list[tuple[bytes, Peer]] = []
        self.arrived = threading.Semaphore(0)

    def handle(self, der: bytes, peer: Peer) -> bytes:
        raise NotImplementedError

    async def handle_async(self, der: bytes, peer: Peer) -> bytes:
        self.asked.append((der, peer))
        if der.startswith(b"wait"):
            self.arrived.release()
            await self.open.wait()
        if der == b"fail":
            raise RuntimeError("details")
        return b"" if der == b"announcement" else b"echo " + der


@dataclass
class Serving:
    """A front end that runs."""

    loop: asyncio.AbstractEventLoop
    front: FrontEnd
    gate: Gate
    address: tuple[str, int]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 10)

    def ask(self, request: bytes) -> tuple[int, Any, bytes]:
        """Status, headers and body of the answer on a connection of its own."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_response(connection)

    def do(self, work: Awaitable[T]) -> T:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(_awaited(work), self.loop).result(20)

    def call(self, work: Callable[[], T]) -> T:
        """Call a function on the server's loop."""

        async def called() -> T:
            return work()

        return self.do(called())

    def open(self) -> None:
        """Let messages that wait go on."""
        self.call(self.gate.open.set)

    def arrives(self) -> None:
        """Wait until one more message that waits has come to the responder."""
        assert self.gate.arrived.acquire(timeout=10)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds on the server's loop."""

        async def holds() -> None:
            async with asyncio.timeout(20):
                while not condition():
                    await asyncio.sleep(0.002)

        self.do(holds())


async def _awaited(work: Awaitable[T]) -> T:
    return await work


@contextmanager
def serving(
    bounds: Bounds | None = None,
    *,
    app: Callable[[Gate], App] | None = None,
    tls: ssl.SSLContext | None = None,
    trusted: tuple[str, ...] = (),
    drain_seconds: float = 5.0,
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Iterator[Serving]:
    """A front end on a free port."""
    runner = asyncio.Runner(loop_factory=factory)
    loop = runner.get_loop()
    thread = threading.Thread(target=loop.run_forever)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listening.setblocking(False)
    address = listening.getsockname()
    thread.start()

    async def start() -> Serving:
        gate = Gate()
        served = App(gate, threads=0, read_timeout_seconds=0.5) if app is None else app(gate)
        front = FrontEnd(served, bounds or Bounds(), trusted_proxies=trusted)
        await front.listen([listening], tls)
        return Serving(loop, front, gate, address)

    async def stop(found: Serving) -> None:
        found.gate.open.set()
        await found.front.drain(drain_seconds)
        await found.front.close()

    found = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(stop(found), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        runner.close()
