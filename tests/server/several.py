"""Several servers of one CA: each in a process of its own, in front of them a proxy that takes turns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from opensslcmp.server import CA
from tests.server.web_client import post, read_response, running

__all__ = ["Connection", "copies", "proxied", "served"]

PATH = "/.well-known/cmp"


def copies(directory: Path, number: int, url: str | None = None) -> list[Path]:
    """Directories of one CA on several machines: certificate, key and vault are the same, the store is at ``url``."""
    first = directory / "ca"
    CA.create(first, "CN=Test CA").close()
    if url is not None:
        (first / "opensslcmp.toml").write_text(f'[store]\nurl = "{url}"\npool_size = 4\n')
        (first / "ca.db").unlink()
    made = [first]
    for at in range(1, number):
        made.append(directory / f"ca{at}")
        shutil.copytree(first, made[-1])
    return made


@contextmanager
def served(*directories: Path, workers: int = 1) -> Iterator[list[int]]:
    """The ports of ``opensslcmp serve``, one for each directory."""
    with ExitStack() as stack:
        command = ("-m", "opensslcmp", "serve")
        yield [
            stack.enter_context(running(*command, str(each), "--port", "0", "--workers", str(workers)))[2]
            for each in directories
        ]


class _Proxy:
    """HTTP, as far as CMP needs it: one request is read, sent to the next server, and its answer sent back."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._next = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        try:
            while True:
                request = await self._message(reader)
                port = self._ports[self._next % len(self._ports)]
                self._next += 1
                if port not in upstream:
                    upstream[port] = await asyncio.open_connection("127.0.0.1", port)
                there, back = upstream[port]
                back.write(request)
                writer.write(await self._message(there))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writers = [writer, *(back for _, back in upstream.values())]
            for each in writers:
                each.close()
            for each in writers:
                with contextlib.suppress(ConnectionError):
                    await each.wait_closed()

    @staticmethod
    async def _message(reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        return head + await reader.readexactly(length)


@contextmanager
def proxied(ports: list[int]) -> Iterator[int]:
    """The port of a proxy that sends each request, of whatever connection, to the next of these ports."""
    loop = asyncio.new_event_loop()
    proxy = _Proxy(ports)
    listening = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0, backlog=1000))
    port: int = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(_end(listening), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=10)  # the clients have gone, so these end by themselves


class Connection:
    """A connection of a client that asks again, with the same bytes, until it is answered.

    Args:
        port: a function, since a server that starts anew may have another one.
        patience: how often it asks.
    """

    def __init__(self, port: Callable[[], int] | int, patience: int = 200) -> None:
        self._port = port if callable(port) else lambda: port
        self._socket: socket.socket | None = None
        self._patience = patience
        self.retransmitted = 0

    def __call__(self, request: bytes) -> bytes:
        """The answer to a message."""
        for attempt in range(self._patience):
            try:
                if self._socket is None:
                    self._socket = socket.create_connection(("127.0.0.1", self._port()), timeout=30)
                    self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket.sendall(post(PATH, request))
                status, _, body = read_response(self._socket)
            except OSError:
                self.close()
                self.retransmitted += 1
                threading.Event().wait(min(0.2, 0.01 * (attempt + 1)))
                continue
            if status == 200:
                return body
            self.retransmitted += 1
        raise ConnectionError("no answer")

    def close(self) -> None:
        """Give up the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def size(name: str, modest: int) -> int:
    """How much of something a test does; docs/testing.md."""
    return int(os.environ.get(name, modest))


def chance(dice: random.Random, percent: int) -> bool:
    """True in so many of a hundred cases."""
    return dice.random() * 100 < percent
