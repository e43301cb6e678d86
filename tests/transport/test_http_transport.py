"""One claim a test, for all three twins, against a server that a test scripts byte by byte."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest

from opensslcmp.context.http import Connection
from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport import AsyncHTTPTransport, HTTPTransport, pool
from tests.transport.http_peers import ANSWER, MESSAGE, Peer, Server, answering, reply

ROOT = Path(__file__).parents[2]


class Client:
    """A transport of any kind, called the same way."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self.kind = kind
        self.transport: HTTPTransport | AsyncHTTPTransport
        if kind == "threads":
            self.transport = HTTPTransport(url, **options)
        else:
            self.transport = AsyncHTTPTransport(url, **options)

    def send(self, request: bytes = MESSAGE, timeout_seconds: float | None = None, **options: Any) -> bytes:
        if isinstance(self.transport, HTTPTransport):
            return self.transport.send(request, timeout_seconds, **options)
        call = partial(self.transport.send, request, timeout_seconds, **options)
        return anyio.run(call, backend=self.kind)


@pytest.fixture(params=["threads", "asyncio", "trio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def connect(url: str, **options: Any) -> Client:
        clients.append(Client(request.param, url, **{"proxy": "", **options}))
        return clients[-1]

    yield connect
    for client in clients:
        client.transport._close()


Connect = Callable[..., Client]


def test_a_message_goes_out_in_one_segment(connect: Connect) -> None:
    segments = []

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            segments.append(peer.segments_received())
            peer.send(reply())

    with Server(script) as server:
        client = connect(server.url)
        for _ in range(3):
            assert client.send(MESSAGE * 200) == ANSWER
    assert segments == [1, 2, 3]


def test_messages_share_one_connection(connect: Connect) -> None:
    with Server() as server:
        client = connect(server.url)
        for number in range(5):
            assert client.send(bytes([number])) == ANSWER
        assert [(n, r[-1]) for n, r in server.requests] == [(1, number) for number in range(5)]


def test_http_1_0_with_keep_alive_is_kept_and_without_is_not(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(reply(version="1.0", Connection="keep-alive" if len(server.requests) < 3 else "x"))

    with Server(script) as server:
        client = connect(server.url)
        for _ in range(4):
            assert client.send() == ANSWER
        assert [number for number, _ in server.requests] == [1, 1, 1, 2]


def test_without_keep_alive_each_message_has_its_connection(connect: Connect) -> None:
    with Server() as server:
        client = connect(server.url, keep_alive=False)
        client.send()
        client.send()
        assert server.connections == 2
        assert b"\r\nConnection: close\r\n" in server.requests[0][1]


def test_an_old_connection_is_not_used_again(connect: Connect) -> None:
    with Server() as server:
        client = connect(server.url, max_idle_seconds=1e-9)
        client.send()
        client.send()
        assert server.connections == 2


def test_connections_that_nobody_needs_any_more_are_closed(connect: Connect) -> None:
    with Server() as server:
        client = connect(server.url)
        client.send()
        client.transport._idle[0].idle_since -= 1000
        old = client.transport._idle.pop()
        client.send()
        client.transport._idle.appendleft(old)
        client.send()
        assert server.gone.wait(5)
        assert old not in client.transport._idle
        assert len(client.transport._idle) == 1
        assert server.connections == 2


@pytest.mark.parametrize("how", ["fin", "rst", "after the request", "rst after the request", "unasked bytes"])
def test_a_connection_closed_while_idle_is_replaced(connect: Connect, how: str) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply())
        if peer.number == 1:
            if "after" in how:
                peer.request()
            elif how == "unasked bytes":
                peer.send(reply(b"forged"))
                closed.set()
                peer.request()
            if "rst" in how:
                peer.reset()
            peer.socket.close()
            closed.set()
        answering(peer)

    with Server(script) as server:
        client = connect(server.url)
        client.send()
        assert "after" in how or closed.wait(5)
        assert client.send(b"second") == ANSWER
        assert server.requests[-1][0] == 2
        assert client.send() == ANSWER
        assert server.connections == 2


def test_a_message_is_sent_again_exactly_once(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if peer.number == 1:
            peer.send(reply())
            peer.request()

    with Server(script) as server:
        client = connect(server.url)
        client.send()
        with pytest.raises(TransportError, match="without an answer"):
            client.send()
        assert [number for number, _ in server.requests] == [1, 1, 2]


def test_a_message_is_not_sent_again_once_part_of_its_answer_was_read(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply())
        peer.request()
        peer.send(reply()[:-1])

    with Server(script) as server:
        client = connect(server.url)
        client.send()
        with pytest.raises(TransportError, match="within the answer"):
            client.send()
        assert len(server.requests) == 2


def test_a_new_connection_that_closes_is_not_tried_again(connect: Connect) -> None:
    with Server(lambda peer: peer.reset()) as server:
        with pytest.raises(TransportError):
            connect(server.url).send()
        assert server.connections == 1


def test_a_message_under_an_http_error_is_returned(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        for status in ("400 Bad Request", "500 Oh"):
            peer.request()
            peer.send(reply(status=status))

    with Server(script) as server:
        client = connect(server.url)
        assert client.send() == client.send() == ANSWER
        assert server.connections == 1


def test_an_error_names_the_url_without_its_password(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"who are you?", status="401 Unauthorized", kind="text/plain"))

    with Server(script) as server:
        client = connect(server.url.replace("//", "//user:secret@"))
        with pytest.raises(TransportError) as raised:
            client.send()
        assert str(raised.value).startswith(f"{server.url}: HTTP 401 Unauthorized: content is text/plain")
        assert "secret" not in repr(client.transport) + repr(raised.value)
        assert b"Authorization: Basic dXNlcjpzZWNyZXQ=" in server.requests[0][1]


def test_a_large_answer_arrives_and_a_larger_one_is_refused(connect: Connect) -> None:
    sizes = [300_000, 1_000_000, 1_000_001]

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(reply(bytes(sizes[len(server.requests) - 1])))

    with Server(script) as server:
        client = connect(server.url, max_response_bytes=1_000_000)
        assert len(client.send()) == 300_000
        assert len(client.send()) == 1_000_000
        with pytest.raises(TransportError, match="exceeds 1000000 bytes"):
            client.send()


def test_a_large_request_arrives(connect: Connect) -> None:
    with Server() as server:
        assert connect(server.url).send(bytes(8_000_000)) == ANSWER
        assert len(server.requests[0][1]) > 8_000_000


def test_an_answer_that_comes_before_the_request_is_read_is_taken(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(100)
        peer.send(reply(status="413 Too Large"))  # then close with much unread, which sends RST

    with Server(script) as server:
        client = connect(server.url)
        assert client.send(bytes(20_000_000)) == ANSWER
        assert not client.transport._idle


def unread(peer: Peer) -> None:
    peer.server.gone.wait(5)


def silent(peer: Peer) -> None:
    peer.request()
    peer.request()


def stopping(peer: Peer) -> None:
    peer.request()
    peer.send(reply()[:-1])
    peer.request()


def dripping(peer: Peer) -> None:
    peer.request()
    for byte in reply():
        peer.send(bytes([byte]))
        time.sleep(0.03)


def interim(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 9)
    peer.request()


@pytest.mark.parametrize("script", [unread, silent, stopping, dripping, interim])
def test_a_timeout_below_a_second_holds(connect: Connect, script: Callable[[Peer], None]) -> None:
    with Server(script) as server:
        client = connect(server.url)
        start = time.monotonic()
        with pytest.raises(TimedOut, match="in time"):
            client.send(timeout_seconds=0.2)
        assert 0.19 < time.monotonic() - start < 1.0
        server.gone.set()


def test_the_transports_own_timeout_holds(connect: Connect) -> None:
    with Server(silent) as server, pytest.raises(TimedOut):
        connect(server.url, message_timeout_seconds=0.05).send()


def test_connecting_times_out(connect: Connect) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host, port = listener.getsockname()
        fillers = [socket.socket() for _ in range(3)]  # fill its backlog: further SYNs are dropped
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((host, port))
        start = time.monotonic()
        with pytest.raises(TimedOut, match="connect"):
            connect(f"http://{host}:{port}/", connect_timeout_seconds=0.2).send()
        assert time.monotonic() - start < 1.0
        for filler in fillers:
            filler.close()


def test_a_name_that_takes_too_long_to_resolve_times_out(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def resolve(*arguments: Any, flags: int = 0, **options: Any) -> list[Any]:
        if (flags or (arguments[5:] or (0,))[0]) & socket.AI_NUMERICHOST:  # trio asks this first, on the loop
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        release.wait(2)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    client = connect("http://slow.example/", connect_timeout_seconds=0.1)
    threading.Timer(0.3, release.set).start()  # asyncio waits for its resolver threads at the end
    with pytest.raises(TimedOut, match=r"resolving slow\.example"):
        client.send()
    release.set()


def test_a_name_that_does_not_exist_is_an_error(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(TransportError, match=r"cannot resolve none\.example: .*not known"):
        connect("http://none.example/").send()


def test_nobody_listening_is_an_error(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransportError, match=rf"cannot connect to 127.0.0.1:{port}: Connection refused"):
        connect(f"http://127.0.0.1:{port}/").send()


def test_the_second_address_is_tried_when_the_first_refuses(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()
    with Server() as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", a) for a in (dead, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert connect(server.url.replace("127.0.0.1", "two.example")).send() == ANSWER


def test_an_address_that_this_machine_cannot_use_is_passed_over(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server() as server:
        found = [(45, socket.SOCK_STREAM, 6, "", ("::1", 1)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        client = connect(server.url.replace("127.0.0.1", "two.example"))
        assert client.send() == ANSWER
        found.pop()
        client.transport._idle.pop().close()
        with pytest.raises(TransportError, match=r"cannot connect to two\.example:\d+: Address family not supported"):
            client.send()


def test_an_empty_acknowledgement_is_for_announcements(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    with Server(script) as server:
        client = connect(server.url)
        assert client.send(announcement=True) == b""
        with pytest.raises(TransportError, match="HTTP 201 Created: without content"):
            client.send()


def test_a_closed_transport_says_so(connect: Connect) -> None:
    with Server() as server:
        client = connect(server.url)
        client.send()
        client.transport._close()
        assert server.gone.wait(5)
        with pytest.raises(ValueError, match="closed"):
            client.send()


def test_headers_go_along(connect: Connect) -> None:
    with Server() as server:
        connect(server.url, headers=[("X-Api-Key", "1")]).send()
        assert b"\r\nX-Api-Key: 1\r\n" in server.requests[0][1]


@pytest.mark.parametrize(
    "options",
    [
        {"connect_timeout_seconds": 0},
        {"message_timeout_seconds": float("inf")},
        {"message_timeout_seconds": float("nan")},
        {"max_connections": 0},
        {"max_response_bytes": 0},
        {"headers": [("a b", "c")]},
        {"proxy": "https://p"},
        {"proxy": "socks5://p"},
    ],
)
def test_what_cannot_be_used_is_refused_at_once(connect: Connect, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        connect("http://ca.example/", **options)


# Proxies


def test_a_proxy_gets_the_whole_url_and_its_password(connect: Connect) -> None:
    with Server() as proxy:
        url = f"http://user:pass@127.0.0.1:{proxy.port}"
        client = connect("http://ca.example/x", proxy=url)
        assert client.send() == ANSWER
        head = proxy.requests[0][1]
        assert head.startswith(b"POST http://ca.example/x HTTP/1.1\r\nHost: ca.example\r\n")
        assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in head
        assert "pass" not in repr(client.transport)


@pytest.mark.parametrize(
    ("environment", "through"),
    [
        ({"http_proxy": "PROXY"}, True),
        ({"HTTP_PROXY": "PROXY"}, True),
        ({"HTTP_PROXY": "PROXY", "REQUEST_METHOD": "POST"}, False),
        ({"https_proxy": "PROXY"}, False),
        ({"http_proxy": ""}, False),
        ({"http_proxy": "PROXY", "no_proxy": "other 127.0.0.1,x"}, False),
        ({"http_proxy": "PROXY", "no_proxy": "127.0.0.10,27.0.0.1"}, True),
        ({"http_proxy": "PROXY", "NO_PROXY": "*"}, False),
    ],
)
def test_the_environment_names_the_proxy(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], through: bool
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server, Server() as proxy:
        for name, value in environment.items():
            monkeypatch.setenv(name, value.replace("PROXY", f"http://127.0.0.1:{proxy.port}"))
        connect(server.url, proxy=None).send()
        assert (len(proxy.requests), len(server.requests)) == ((1, 0) if through else (0, 1))


def test_a_domain_can_be_kept_from_the_proxy(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect("http://ca.example/", proxy="http://p", no_proxy=".example")
    assert client.transport._via is None
    assert connect("http://ca.example/", proxy="http://p", no_proxy="example").transport._via is not None


# What concerns threads only


def test_threads_share_a_bounded_number_of_connections() -> None:
    with Server() as server, HTTPTransport(server.url, proxy="", max_connections=2) as transport:
        threads = [threading.Thread(target=lambda: [transport.send(MESSAGE) for _ in range(10)]) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 60
        assert server.connections <= 2


def test_waiting_for_a_free_connection_times_out() -> None:
    got = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        got.set()
        server.gone.wait(5)
        peer.send(reply())

    with Server(script) as server, HTTPTransport(server.url, proxy="", max_connections=1) as transport:
        thread = threading.Thread(target=transport.send, args=(MESSAGE,))
        thread.start()
        got.wait(5)
        with pytest.raises(TimedOut, match="none of 1 connections became free"):
            transport.send(MESSAGE, 0.05)
        server.gone.set()
        thread.join()


@pytest.mark.parametrize("after", [0.03, 0.25], ids=["inside C", "inside Python"])
def test_a_signal_ends_the_wait(after: float) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Server(silent) as server, HTTPTransport(server.url, proxy="") as transport:
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, after)
            with pytest.raises(Interrupted):
                transport.send(MESSAGE, 10)
            assert time.monotonic() - start < after + 0.5
            assert server.gone.wait(5)  # its connection is closed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def child(script: str, url: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, url], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


def test_a_program_with_default_sigpipe_survives_a_server_that_closes() -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(10)
        peer.reset()

    with Server(script) as server:
        out = child(
            "import signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
            "from opensslcmp.transport import HTTPTransport\n"
            "from opensslcmp.errors import TransportError\n"
            "for _ in range(3):\n"
            "    try: HTTPTransport(sys.argv[1], proxy='').send(bytes(20_000_000))\n"
            "    except TransportError as error: print('survived')\n",
            server.url,
        )
        assert out.split() == ["survived"] * 3


def test_a_forked_child_uses_connections_of_its_own() -> None:
    with Server() as server:
        out = child(
            "import os, sys\n"
            "from opensslcmp.transport import HTTPTransport\n"
            "transport = HTTPTransport(sys.argv[1], proxy='')\n"
            "transport.send(b'parent')\n"
            "transport._free.get()\n"  # as if another thread were sending: its permit must come back
            "if not (pid := os.fork()):\n"
            "    transport.send(b'child'); transport.close(); os._exit(0)\n"
            "os.waitpid(pid, 0)\n"
            "transport.send(b'parent'); print('done')\n",
            server.url,
        )
        assert out == "done\n"
        assert [(number, body.rpartition(b"\n")[2]) for number, body in server.requests] == [
            (1, b"parent"),
            (2, b"child"),
            (1, b"parent"),
        ]


def test_a_transport_that_is_closed_while_a_message_is_under_way_keeps_no_connection() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        transport.close()
        peer.send(reply())
        peer.request()

    with Server(script) as server:
        transport = HTTPTransport(server.url, proxy="")
        assert transport.send(MESSAGE) == ANSWER
        assert server.gone.wait(5)
        assert not transport._idle


def test_a_transport_that_is_closed_as_a_connection_comes_back_keeps_none() -> None:
    class Closing(deque[Connection]):
        def append(self, connection: Connection) -> None:
            super().append(connection)
            transport.close()

    with Server() as server:
        transport = HTTPTransport(server.url, proxy="")
        transport._idle = Closing()
        assert transport.send(MESSAGE) == ANSWER
        assert server.gone.wait(5)
        assert not transport._idle


def test_after_a_fork_every_transport_begins_anew(connect: Connect) -> None:
    with Server() as server:
        client = connect(server.url)
        client.send()
        pool._after_fork()  # the children of real forks are seen by no coverage
        assert not client.transport._idle
        client.send()
        assert server.connections == 2


def test_a_signal_handler_may_send_while_a_message_is_under_way() -> None:
    answers = []

    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            if peer.number == 1:
                os.kill(os.getpid(), signal.SIGUSR1)
                handled.wait(5)
            peer.send(reply(request[-1:]))

    def handle(signum: int, frame: FrameType | None) -> None:
        answers.append(transport.send(b"2"))
        handled.set()

    handled = threading.Event()
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with Server(script) as server, HTTPTransport(server.url, proxy="") as transport:
            assert transport.send(b"1") == b"1"
            assert answers == [b"2"]
    finally:
        signal.signal(signal.SIGUSR1, before)


# What concerns event loops only


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_transport_closes(backend: str) -> None:
    async def main(url: str) -> None:
        transport = AsyncHTTPTransport(url, proxy="")
        await transport.send(MESSAGE)
        await transport.close()
        await transport.aclose()
        with pytest.raises(ValueError, match="closed"):
            await transport.send(MESSAGE)

    with Server() as server:
        anyio.run(main, server.url, backend=backend)
        assert server.gone.wait(5)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_many_messages_at_once_share_a_bounded_number_of_connections(backend: str) -> None:
    async def main(url: str) -> None:
        transport = AsyncHTTPTransport(url, proxy="", max_connections=4)
        async with transport, anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(transport.send, MESSAGE)

    with Server() as server:
        anyio.run(main, server.url, backend=backend)
        assert len(server.requests) == 60
        assert server.connections <= 4


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_message_closes_its_connection_and_frees_its_place(backend: str) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if peer.number > 1:
            peer.send(reply())
        peer.request()

    async def main(url: str) -> None:
        async with AsyncHTTPTransport(url, proxy="", max_connections=1) as transport:
            with anyio.move_on_after(0.05) as scope:
                await transport.send(MESSAGE)
            assert scope.cancelled_caught
            assert await anyio.to_thread.run_sync(server.gone.wait, 5)
            assert await transport.send(MESSAGE) == ANSWER

    with Server(script) as server:
        anyio.run(main, server.url, backend=backend)
        assert server.connections == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waiting_for_a_free_connection_times_out_in_a_loop_too(backend: str) -> None:
    async def main(url: str) -> None:
        transport = AsyncHTTPTransport(url, proxy="", max_connections=1)
        async with transport, anyio.create_task_group() as group:
            group.start_soon(transport.send, MESSAGE)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(TimedOut, match="none of 1 connections became free"):
                await transport.send(MESSAGE, 0.05)
            server.gone.set()

    def script(peer: Peer) -> None:
        peer.request()
        server.gone.wait(5)
        peer.send(reply())

    with Server(script) as server:
        anyio.run(main, server.url, backend=backend)
