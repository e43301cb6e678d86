"""Run as a program: a server that is killed on demand and started anew, on the same port.

    killable_server.py DIRECTORY

Prints its port, then for every line on stdin kills the process that serves (SIGKILL) and forks another one, which opens
store and CA anew. What a new process would import is imported already, so a thousand lives take minutes. EOF ends it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

from opensslcmp.server import open_responder, postgres, sqlstore

IMPORTED_BEFORE_THE_FORK = (postgres, sqlstore)


async def _serve(listening: socket.socket, directory: str) -> None:
    responder = open_responder(directory)
    threads = ThreadPoolExecutor(8)
    loop = asyncio.get_running_loop()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                request = await reader.readexactly(int(length.split(b":")[1]))
                answer = await loop.run_in_executor(threads, responder.handle, request)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(connection, sock=listening) as server:
        await server.serve_forever()


def _life(listening: socket.socket, directory: str) -> int:
    """A new process that serves."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(_serve(listening, directory))
        finally:
            os._exit(1)
    return child


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening:
        print(listening.getsockname()[1], flush=True)
        child = _life(listening, sys.argv[1])
        while sys.stdin.readline():
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), "the server ended by itself"
            child = _life(listening, sys.argv[1])
            print("again", flush=True)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
