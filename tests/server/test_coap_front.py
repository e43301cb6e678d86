"""CMP over CoAP, both ends: whole enrollments, what each request gets, and datagrams that are nonsense."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from opensslcmp import Session
from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.server.app import App
from opensslcmp.server.front import Bounds
from opensslcmp.server.peer import Peer
from opensslcmp.transport import AsyncCoAPTransport, CoAPTransport, async_transport_for, transport_for
from tests.server.front_world import Gate, Serving, serving
from tests.server.transfer_world import TWINS, Site

if importlib.util.find_spec("aiocoap") is None:
    pytest.skip("aiocoap is missing: pip install 'opensslcmp[coap]'", allow_module_level=True)

import aiocoap

from opensslcmp.server.coap_front import COAP_OPERATIONS, CoAPFront, place_of

ROOT = "/.well-known/cmp"


@dataclass
class Over:
    """A server of CMP over CoAP."""

    serving: Serving
    front: CoAPFront
    port: int

    @property
    def gate(self) -> Gate:
        return self.serving.gate

    @property
    def url(self) -> str:
        return f"coap://127.0.0.1:{self.port}"

    def ask(self, path: str = ROOT, payload: bytes = b"hello", code: Any = aiocoap.POST, **fields: Any) -> Any:
        """The answer to a request."""

        async def run() -> Any:
            context = await aiocoap.Context.create_client_context(transports=["udp6"])
            try:
                fields.setdefault("content_format", 259)
                message = aiocoap.Message(code=code, uri=self.url + path, payload=payload, **fields)
                async with asyncio.timeout(20):
                    return await context.request(message).response
            finally:
                await context.shutdown()

        return asyncio.run(run())


@contextmanager
def over_coap(bounds: Bounds | None = None, *, app: Callable[[Gate], App] | None = None) -> Iterator[Over]:
    with serving(bounds, app=app) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        async def start() -> CoAPFront:
            front = CoAPFront(server.front)
            await front.listen("127.0.0.1", port)
            return front

        found = Over(server, server.do(start()), port)
        try:
            yield found
        finally:
            server.do(found.front.drain(5.0))


@TWINS
def test_a_certificate_comes_over_coap_at_once_and_by_polling(twin: Callable[..., Session]) -> None:
    site = Site()
    with over_coap(app=site.app) as server:
        site.enroll_twice(twin, server.url)
    assert {each.peer.address for each in site.events} == {"127.0.0.1"}


def test_long_messages_go_in_blocks_both_ways() -> None:
    message = bytes(range(256)) * 100
    with over_coap() as server:
        assert CoAPTransport(server.url).send(message) == b"echo " + message
        assert [der for der, _ in server.gate.asked] == [message]
        assert server.serving.call(lambda: server.front._partial_bytes) == 0


def test_label_and_operation_come_from_the_path() -> None:
    with over_coap() as server:
        answer = server.ask(f"{ROOT}/p/factory/ir")
        assert (answer.code, answer.opt.content_format, answer.payload) == (aiocoap.CHANGED, 259, b"echo hello")
        assert server.gate.asked == [(b"hello", Peer("127.0.0.1", "factory", "initialization"))]
        announced = server.ask(payload=b"announcement")
        assert (announced.code, announced.payload) == (aiocoap.CHANGED, b"")
    for short, long in COAP_OPERATIONS.items():
        for before, label in (((), None), (("p", "x"), "x")):
            place = place_of((".well-known", "cmp", *before, short))
            assert place is not None
            assert (place.label, place.operation) == (label, long)
    assert place_of((".well-known", "cmp", "initialization")) is None


@pytest.mark.parametrize(
    ("query", "found"),
    [("", True), ("?rt=cmp", True), ("?rt=c*", True), ("?href=/.well-known/cmp&rt=cmp", True), ("?rt=est", False)],
)
def test_cmp_is_discovered(query: str, found: bool) -> None:
    with over_coap() as server:
        answer = server.ask(f"/.well-known/core{query}", b"", aiocoap.GET, content_format=None)
        assert (answer.code, answer.opt.content_format) == (aiocoap.CONTENT, 40)
        assert answer.payload == (b'</.well-known/cmp>;rt="cmp";ct=259' if found else b"")
        assert server.ask("/.well-known/core", b"x").code == aiocoap.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"path": "/other"}, aiocoap.NOT_FOUND),
        ({"path": f"{ROOT}/p"}, aiocoap.NOT_FOUND),
        ({"code": aiocoap.GET, "payload": b""}, aiocoap.METHOD_NOT_ALLOWED),
        ({"content_format": 0}, aiocoap.UNSUPPORTED_CONTENT_FORMAT),
        ({"content_format": None}, aiocoap.UNSUPPORTED_CONTENT_FORMAT),
        ({"payload": b"x" * 5000}, aiocoap.REQUEST_ENTITY_TOO_LARGE),
        ({"payload": b"fail"}, aiocoap.INTERNAL_SERVER_ERROR),
    ],
    ids=["path", "half a path", "method", "format", "no format", "size", "failure"],
)
def test_what_is_wrong_is_told_by_its_code(fields: dict[str, Any], code: Any) -> None:
    def small(gate: Gate) -> App:
        return App(gate, threads=0, max_request_bytes=4000)

    with over_coap(app=small) as server:
        assert server.ask(**fields).code == code
        assert server.ask().payload == b"echo hello"  # and others go on


def test_blocks_of_messages_that_are_not_whole_are_bounded() -> None:
    with over_coap(Bounds(max_buffered_bytes=3000)) as server:
        assert server.ask(payload=b"x" * 5000).code == aiocoap.SERVICE_UNAVAILABLE
        server.front._partial.clear()
        server.front._partial_bytes = 0
        assert server.ask(payload=b"x" * 2500).payload == b"echo " + b"x" * 2500


def test_datagrams_of_nonsense_change_nothing() -> None:
    with over_coap() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for datagram in (
            b"",
            b"\x40",
            b"\xff" * 1400,
            b"\x4f\x02\0\0",
            b"\x40\x02\0\1\xff",
            b"POST / HTTP/1.1\r\n\r\n",
        ):
            peer.sendto(datagram, ("127.0.0.1", server.port))
        assert server.ask().payload == b"echo hello"


@pytest.mark.parametrize("kind", [CoAPTransport, AsyncCoAPTransport], ids=["threads", "asyncio"])
def test_what_is_no_answer_is_told_to_the_client(kind: Any) -> None:
    def send(transport: Any, request: bytes, timeout: float = 20) -> bytes:
        if kind is CoAPTransport:
            answer: bytes = transport.send(request, timeout)
        else:
            answer = asyncio.run(transport.send(request, timeout))
        return answer

    with over_coap() as server:
        assert send(kind(server.url), b"announcement") == b""
        with pytest.raises(TransportError, match=r"5\.00.*: the server failed"):
            send(kind(server.url), b"fail")
        with pytest.raises(TransportError, match=r"4\.04"):
            send(kind(f"{server.url}/other"), b"hello")
        with pytest.raises(TransportError, match="exceeds 5 bytes"):
            send(kind(server.url, max_response_bytes=5), b"hello")
        with pytest.raises(TimedOut):
            send(kind(server.url), b"wait", 0.1)
        server.serving.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(TimedOut):
            send(kind(f"coap://127.0.0.1:{silent.getsockname()[1]}"), b"hello", 0.1)


def test_a_blocking_send_works_where_a_loop_runs() -> None:
    async def run(url: str) -> bytes:
        return CoAPTransport(url).send(b"hello", 20)

    with over_coap() as server:
        assert asyncio.run(run(server.url)) == b"echo hello"


def test_coap_urls_make_coap_transports() -> None:
    assert repr(transport_for("coap://ca.example")) == "CoAPTransport('coap://ca.example:5683/.well-known/cmp')"
    assert isinstance(async_transport_for("coap://[::1]:1/p", proxy=""), AsyncCoAPTransport)
    for url, words in (
        ("coaps://ca.example", "not supported"),
        ("coap://user@ca.example", "no user"),
        ("coap://", "no usable host"),
    ):
        with pytest.raises(ValueError, match=words):
            transport_for(url)
    for option in ("message_timeout_seconds", "max_response_bytes"):
        with pytest.raises(ValueError, match="must be"):
            CoAPTransport("coap://ca.example", **{option: 0})


def test_an_option_that_is_no_text_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    with over_coap() as over, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
        to.sendto(b"\x40\x02\x00\x07\xb2\xff\xfe", ("127.0.0.1", over.port))  # Uri-Path
        assert over.ask().payload == b"echo hello"
    assert not caplog.records
