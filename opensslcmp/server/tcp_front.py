"""CMP over TCP, the server's side: TCP-messages in, TCP-messages out, on the worker's event loop.

What a TCP-message gets, first match first; "and the end" means that the connection is closed then:

======================================================  ==============================================================
it is of a version that is not known                    errorMsgRep 0101 with those that are, and the end
it is longer than the limit, by its first four bytes    errorMsgRep 0200, and the end; nothing more of it is read
it does not come in time, or not whole                  the end
it is a pollReq                                         errorMsgRep 0202: nobody was ever told to poll this way
it is no pkiReq                                         errorMsgRep 0201, and the end
the server has no room, or fails                        errorMsgRep 0300, and the end
it is an announcement, or anything without an answer    finRep
anything else                                           pkiRep with what the responder says, an error message included
======================================================  ==============================================================

The first form of RFC 2510, which has no version, is answered in kind. Messages of a connection are answered in order.

Source: RFC 2510, 5.2; draft-ietf-pkix-cmp-transport-protocols-05, 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl

from opensslcmp.errors import TransportError
from opensslcmp.server.front import FrontEnd
from opensslcmp.server.http_service import PKIXCMP
from opensslcmp.server.peer import Peer
from opensslcmp.transport.tcp_message import (
    HEAD_BYTES,
    VERSION,
    TCPError,
    TCPMessage,
    TCPType,
    body_bytes,
    decode,
    error_message,
)

__all__ = ["TCPFront"]

_log = logging.getLogger("opensslcmp.server")


class TCPFront:
    """Serves CMP over TCP on the running event loop.

    Args:
        front: where messages go; its bounds count here too, for these connections by themselves.
    """

    def __init__(self, front: FrontEnd) -> None:
        self._front = front
        self._limit = front.routes.max_request_bytes
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._of_address: dict[str, int] = {}

    async def listen(self, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on a socket that listens."""
        self._socket = listening
        await self._accept(tls)

    async def _accept(self, tls: ssl.SSLContext | None) -> None:
        assert self._socket is not None
        self._server = await asyncio.start_server(
            self._connected,
            # A copy: closing the server for another one with other TLS files leaves the socket listening.
            sock=self._socket.dup(),
            backlog=1024,
            ssl=tls,
            ssl_handshake_timeout=self._front.bounds.header_timeout_seconds if tls else None,
        )

    async def change_tls(self, tls: ssl.SSLContext) -> None:
        """Use this for connections from now on; those that are there stay as they are."""
        before = self._server
        if before is not None:
            before.close()
            await self._accept(tls)

    async def drain(self, seconds: float) -> bool:
        """Accept nothing more, answer what was begun, close all connections; False when that took too long."""
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()
        for task, connection in list(self._connections.items()):
            connection.last = True
            if not connection.answering:
                task.cancel()
        left = set(self._connections)
        if left:
            _, left = await asyncio.wait(left, timeout=seconds)
        for task in left:
            task.cancel()
        return not left

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = writer.get_extra_info("peername")
        address = name[0] if name else ""
        if "." in address:  # one that came by IPv4 is told so
            address = address.removeprefix("::ffff:")
        tls = writer.get_extra_info("ssl_object")
        peer = Peer(address=address, tls_certificate=tls.getpeercert(binary_form=True) if tls is not None else None)
        task = asyncio.current_task()
        assert task is not None
        bounds, of_address = self._front.bounds, self._of_address.get(address, 0)
        full = len(self._connections) >= bounds.max_connections or of_address >= bounds.max_connections_per_address
        connection = self._connections[task] = _Connection(self._front, self._limit, reader, writer, peer)
        self._of_address[address] = of_address + 1
        try:
            if full:
                await connection.say(error_message(TCPError.GENERAL_SERVER_ERROR, "there are too many connections"))
            else:
                await connection.serve()
        except asyncio.CancelledError:
            pass  # by drain
        except (OSError, EOFError, TimeoutError):
            pass  # it is gone, or as good as gone
        except Exception:
            _log.exception("a connection of CMP over TCP failed")
        finally:
            del self._connections[task]
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
            await connection.close()


class _Connection:
    """One connection."""

    def __init__(
        self,
        front: FrontEnd,
        limit: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer,
    ) -> None:
        self._front = front
        self._limit = limit
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self.answering = False
        self.last = False

    async def serve(self) -> None:
        """Answer message after message."""
        bounds = self._front.bounds
        seconds = bounds.header_timeout_seconds
        while not self.last:
            async with asyncio.timeout(seconds):
                head = await self._reader.readexactly(1)
            seconds = bounds.idle_timeout_seconds
            async with asyncio.timeout(bounds.header_timeout_seconds):
                head += await self._reader.readexactly(HEAD_BYTES - 1)
            answer = await self._take(head)
            if self.last and answer.version and not answer.close:
                answer = TCPMessage(kind=answer.kind, value=answer.value, close=True, version=answer.version)
            await self.say(answer)
            self.answering = False
            if answer.close:
                return

    async def _take(self, head: bytes) -> TCPMessage:
        """Read the rest of a TCP-message; the answer to it."""
        version = VERSION
        try:
            left, version = body_bytes(head, self._limit)
        except TransportError as error:
            return error_message(TCPError.GENERAL_CLIENT_ERROR, str(error), version=0 if head[4] < VERSION else VERSION)
        if version not in {0, VERSION}:
            known = bytes([VERSION])
            return error_message(TCPError.VERSION_NOT_SUPPORTED, f"this server speaks version {VERSION}", known)
        if self._front.buffered + left > self._front.bounds.max_buffered_bytes:
            return error_message(TCPError.GENERAL_SERVER_ERROR, "the server is busy; try again later", version=version)
        self._front.buffered += left
        try:
            async with asyncio.timeout(self._front.app.read_timeout_seconds):
                rest = await self._reader.readexactly(left)
            self.answering = True
            asked = decode(head, rest)
            self.last = self.last or asked.close
            return await self._answer(asked)
        finally:
            self._front.buffered -= left

    async def _answer(self, asked: TCPMessage) -> TCPMessage:
        version = asked.version
        if asked.kind == TCPType.POLL_REQUEST:
            text = "nothing is there under this reference"
            return error_message(TCPError.INVALID_POLL_ID, text, asked.value[:4], version=version)
        if asked.kind != TCPType.PKI_REQUEST:
            text = f"a TCP-message of type {asked.kind} is not for a server"
            return error_message(TCPError.INVALID_MESSAGE_TYPE, text, version=version)
        reply = await self._front.ask(asked.value, self._peer)
        if reply.content_type == PKIXCMP:
            return TCPMessage(kind=TCPType.PKI_REPLY, value=reply.body, version=version)
        if reply.status < 300:
            return TCPMessage(kind=TCPType.FINISHED, value=b"\0", version=version)
        return error_message(TCPError.GENERAL_SERVER_ERROR, reply.body.decode().strip(), version=version)

    async def say(self, message: TCPMessage) -> None:
        """Send a TCP-message, in bounded time."""
        self._writer.write(message.encode())
        async with asyncio.timeout(self._front.bounds.header_timeout_seconds):
            await self._writer.drain()

    async def close(self) -> None:
        """End the connection; what was written and not sent in time is dropped."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2.0):
                await self._writer.wait_closed()
            return
        self._writer.transport.abort()
