"""Clients of CMP by files."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import anyio
import pytest

from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport import AsyncFileTransport, FileTransport, as_transport, async_transport_for, transport_for
from opensslcmp.transport.mailbox import Mailbox, name_of

KINDS = pytest.mark.parametrize("kind", [FileTransport, AsyncFileTransport], ids=["threads", "asyncio"])


def send(kind: Any, url: str, request: bytes, timeout: float | None = None, **options: Any) -> bytes:
    transport = kind(url, **options)
    if kind is FileTransport:
        answer: bytes = transport.send(request, timeout)
        transport.close()
        return answer

    async def run() -> bytes:
        answer: bytes = await transport.send(request, timeout)
        await transport.close()
        return answer

    return anyio.run(run)


@KINDS
def test_a_request_waits_and_the_same_one_takes_the_answer(kind: Any, tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "box")
    url = f"file://{box.directory}"
    for _ in range(2):
        with pytest.raises(TimedOut, match=name_of(b"request")):
            send(kind, url, b"request", 0)
    (asked,) = box.waiting(10)
    assert asked[0].read_bytes() == b"request"
    (box.answers / name_of(b"request")).write_bytes(b"answer")
    assert send(kind, url, b"request", look_seconds=0.01) == b"answer"
    assert [each for each in box.directory.rglob("*") if each.is_file()] == []


@KINDS
def test_an_answer_that_is_too_long_is_refused(kind: Any, tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    box.create()
    (box.answers / name_of(b"request")).write_bytes(b"x" * 101)
    with pytest.raises(TransportError, match="it has more than 100 bytes"):
        send(kind, f"file:{tmp_path}", b"request", max_response_bytes=100)


@KINDS
def test_a_directory_that_cannot_be_used_is_told(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TransportError, match="File exists"):
        send(kind, f"file:{tmp_path}/file", b"request")


@pytest.mark.parametrize(
    "url",
    ["http://x/", "file:", "file://elsewhere/box", "file:/box?colour=blue", "file:/box?label=a&label=b", "file:/b%00x"],
)
def test_urls_that_name_no_directory_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        FileTransport(url)


def test_options_of_files_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="look_seconds"):
        FileTransport("file:/box", look_seconds=-1)
    with pytest.raises(ValueError, match="max_response_bytes"):
        FileTransport("file:/box", max_response_bytes=0)


def test_file_urls_make_file_transports() -> None:
    assert repr(transport_for("file:/a%20b?label=x")) == "FileTransport('file:/a b?label=x')"
    assert isinstance(as_transport("file:relative/box"), FileTransport)
    assert isinstance(async_transport_for("file:/box", proxy=""), AsyncFileTransport)
    assert signature(FileTransport) == signature(AsyncFileTransport)
