"""A raw HTTP client, and a server in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def post(
    path: str, body: bytes, *headers: str, version: str = "1.1", content_type: str = "application/pkixcmp"
) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", f"Content-Type: {content_type}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def exchange(connection: socket.socket, request: bytes) -> tuple[int, Mapping[str, str], bytes]:
    connection.sendall(request)
    return read_response(connection)


def read_response(connection: socket.socket) -> tuple[int, Mapping[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError(data)
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return int(first.split()[1]), headers, body


def environment() -> dict[str, str]:
    """In which a child finds the package as we did."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:]])}


@contextmanager
def running(*command: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[tuple[str, str, int]]:
    """URL, host and port of a server that prints ``listening on URL``."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"listening on (https?://([^:]+|\[.*\]):(\d+)/\.well-known/cmp)\n", line)
            assert found, line
            yield found[1], found[2], int(found[3])
        finally:
            process.send_signal(stop)
            assert process.wait(20) == 0
