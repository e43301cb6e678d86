"""The front end: HTTP/1.0 and 1.1 on the wire, what hostile peers may do, overload, proxies, the end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import resource
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opensslcmp.asn1 import admit
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server.app import App, Document
from opensslcmp.server.front import Bounds
from opensslcmp.server.peer import Peer
from opensslcmp.server.server_settings import ServerSettings
from tests.server.device import KEYS, crmf, said
from tests.server.front_world import Gate, Serving, serving
from tests.server.web_client import exchange, post, read_response
from tests.server.world import World

ROOT = "/.well-known/cmp"


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip("uvloop").new_event_loop
    return factory


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Serving]:
    def app(gate: Gate) -> App:
        documents = {"/large": lambda: Document(content=bytes(3_000_000), content_type=b"application/octet-stream")}
        return App(gate, threads=0, documents=documents, max_request_bytes=200_000, read_timeout_seconds=0.5)

    bounds = Bounds(max_header_bytes=4096, max_headers=20, header_timeout_seconds=0.5, idle_timeout_seconds=1)
    with serving(bounds, app=app, factory=_uvloop() if request.param == "uvloop" else None) as found:
        yield found


@pytest.fixture
def connection(server: Serving) -> Iterator[socket.socket]:
    with server.connect() as found:
        yield found


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(10)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


# -- HTTP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_connection_is_kept_as_the_peer_wishes(server: Serving, version: str) -> None:
    keep = ("Connection: keep-alive",) if version == "1.0" else ()
    with server.connect() as connection:
        for number in range(5):
            request = post(f"{ROOT}/keyupdate?x=y", b"%d" % number, *keep, version=version)
            status, headers, body = exchange(connection, request)
            assert (status, body) == (200, b"echo %d" % number)
            assert headers["connection"] == "keep-alive"
            assert headers["content-type"] == "application/pkixcmp"
            assert headers["date"].endswith("GMT")
        status, headers, _ = exchange(connection, post(ROOT, b"x", "Connection: close", version=version))
        assert (status, headers["connection"]) == (200, "close")
        assert is_closed(connection)


def test_the_peer_is_told_to_the_responder(server: Serving, connection: socket.socket) -> None:
    exchange(connection, post(f"{ROOT}/p/x%20y/keyupdate", b"who"))
    assert server.gate.asked[-1] == (b"who", Peer(address="127.0.0.1", label="x y", operation="keyupdate"))
    exchange(connection, post("http://ca.example" + ROOT + "/p/l", b"who"))
    assert server.gate.asked[-1] == (b"who", Peer(address="127.0.0.1", label="l"))


def test_pipelined_requests_are_answered_in_order(connection: socket.socket) -> None:
    requests = b"".join(post(ROOT, b"%d" % number) for number in range(30))
    connection.sendall(requests + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + post("/nowhere", b"x"))
    data = b""
    while b"nothing at this path" not in data:
        data += connection.recv(65536)
    places = [data.index(b"\r\n\r\necho %d" % number) for number in range(30)] + [data.index(b"ok\n"), len(data)]
    assert places == sorted(places)


def test_pipelined_requests_wait_for_one_that_takes_time(server: Serving, connection: socket.socket) -> None:
    connection.sendall(post(ROOT, b"wait first") + post(ROOT, b"second") + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    server.arrives()
    assert server.ask(post(ROOT, b"other"))[2] == b"echo other"
    server.open()
    data = b""
    while b"ok\n" not in data:
        data += connection.recv(65536)
    assert data.index(b"echo wait first") < data.index(b"echo second") < data.index(b"ok\n")
    server.call(server.gate.open.clear)


def test_requests_beyond_what_may_be_pipelined_are_left_and_the_connection_is_closed(server: Serving) -> None:
    with server.connect() as connection:
        connection.sendall(post(ROOT, b"x") * 200)
        data = b""
        while more := connection.recv(65536):
            data += more
    assert 64 <= data.count(b"200 OK") < 200
    assert data.count(b"connection: close") == 1


def test_a_head_that_came_before_is_not_parsed_again_and_means_the_same(server: Serving) -> None:
    path = f"{ROOT}/p/again/keyupdate"
    with server.connect() as first, server.connect() as second:
        for connection, body in ((first, b"one"), (second, b"two"), (first, b"six")):
            assert exchange(connection, post(path, body))[::2] == (200, b"echo " + body)
            assert server.gate.asked[-1] == (body, Peer(address="127.0.0.1", label="again", operation="keyupdate"))
    request = post(path, b"one")
    assert server.front.heads[request[:-3]][1] == 3


@pytest.mark.parametrize("apart", [1, 30, -4, -1])
def test_a_known_head_in_pieces_or_with_more_behind_it_is_parsed(
    server: Serving, connection: socket.socket, apart: int
) -> None:
    request = post(ROOT, b"known")
    assert exchange(connection, request)[2] == b"echo known"
    connection.sendall(request[:apart])
    server.call(lambda: None)
    connection.sendall(request[apart:] + request + request[:apart])
    answers = b""
    while answers.count(b"echo known") < 2:
        answers += connection.recv(65536)
    server.call(lambda: None)
    assert exchange(connection, request[apart:])[2] == b"echo known"


def test_a_body_that_looks_like_a_known_request_is_a_body(server: Serving, connection: socket.socket) -> None:
    inside = post(ROOT, b"inside")
    assert exchange(connection, inside)[2] == b"echo inside"
    before = len(server.gate.asked)
    outside = post(ROOT, inside)
    connection.sendall(outside[: -len(inside)])
    server.call(lambda: None)
    connection.sendall(inside)
    assert read_response(connection)[2] == b"echo " + inside
    assert [body for body, _ in server.gate.asked[before:]] == [inside]


def test_the_heads_that_are_kept_are_bounded(server: Serving, connection: socket.socket) -> None:
    for number in range(1100):
        assert exchange(connection, post(f"{ROOT}/p/{number}", b"x"))[0] == 200
    assert exchange(connection, post(f"{ROOT}/p/{'x' * 1000}", b"x"))[0] == 200
    assert 0 < len(server.front.heads) <= 1024
    assert max(map(len, server.front.heads)) <= 1024


def test_a_chunked_body_is_put_together(connection: socket.socket) -> None:
    head = f"POST {ROOT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkixcmp\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode())
    for piece in (b"3\r\nabc\r\n", b"2;x=y\r\n", b"de\r\n0\r\n", b"Trailer: x\r\n\r\n"):
        connection.sendall(piece)
    assert read_response(connection)[::2] == (200, b"echo abcde")
    assert exchange(connection, post(ROOT, b"next"))[2] == b"echo next"


def test_who_expects_100_continue_gets_it_before_sending_the_body(connection: socket.socket) -> None:
    request = post(ROOT, b"body", "Expect: 100-continue")
    connection.sendall(request[:-4])
    assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b"body")
    assert read_response(connection)[::2] == (200, b"echo body")


@pytest.mark.parametrize(
    ("path", "content_type", "expect", "status"),
    [
        ("/nowhere", "application/pkixcmp", "100-continue", 404),
        (ROOT, "text/plain", "100-continue", 415),
        (ROOT, "application/pkixcmp", "tea", 417),
    ],
)
def test_who_expects_what_it_does_not_get_is_told_without_its_body(
    connection: socket.socket, path: str, content_type: str, expect: str, status: int
) -> None:
    connection.sendall(post(path, b"body", f"Expect: {expect}", content_type=content_type)[:-4])
    assert read_response(connection)[0] == status
    connection.shutdown(socket.SHUT_WR)
    assert is_closed(connection)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post("/nowhere", b"x"), 404),
        (post(ROOT, b"x", content_type="text/plain"), 415),
        (post(ROOT, b"").replace(b"POST", b"PUT"), 405),
        (post(ROOT, b"announcement"), 202),
        (post(ROOT, b"fail"), 500),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ],
)
def test_what_a_request_gets_leaves_the_connection_open(
    connection: socket.socket, request_: bytes, status: int
) -> None:
    connection.sendall(request_)
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1000)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"details" not in head
    assert exchange(connection, post(ROOT, b"next"))[2].endswith(b"echo next")


def test_head_has_the_length_and_no_body(connection: socket.socket) -> None:
    connection.sendall(b"HEAD /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    data = b""
    while more := connection.recv(65536):
        data += more
    assert b"content-length: 3000000" in data
    assert data.endswith(b"\r\n\r\n")
    with pytest.raises(ConnectionError):
        read_response(connection)


def test_a_large_document_is_sent_whole(connection: socket.socket) -> None:
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(connection)[2] == bytes(3_000_000)


def test_a_document_that_did_not_change_is_not_sent(connection: socket.socket) -> None:
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    etag = read_response(connection)[1]["etag"]
    status, headers, body = exchange(
        connection, f"GET /large HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n\r\n".encode()
    )
    assert (status, body, headers["etag"]) == (304, b"", etag)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x30\x82\x00\x01" * 100, 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"POST {ROOT} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".encode(), 400),
        (b"GET /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 30 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5000, 431),
        (post(ROOT, bytes(200_001))[:300], 413),
    ],
)
def test_what_cannot_be_read_on_is_answered_and_closed(
    server: Serving, connection: socket.socket, request_: bytes, status: int
) -> None:
    asked = len(server.gate.asked)
    connection.sendall(request_)
    found, headers, _ = read_response(connection)
    assert (found, headers["connection"]) == (status, "close")
    connection.shutdown(socket.SHUT_WR)
    assert is_closed(connection)
    assert len(server.gate.asked) == asked


def test_a_refusal_reaches_a_client_that_goes_on_sending(server: Serving) -> None:
    with server.connect() as connection:
        connection.sendall(post(ROOT, bytes(200_001))[:1000])
        for _ in range(20):
            connection.sendall(bytes(10_000))
        assert read_response(connection)[0] == 413


def test_a_refusal_waits_for_the_answers_before_it(server: Serving, connection: socket.socket) -> None:
    connection.sendall(post(ROOT, b"wait one") + b"nonsense\r\n\r\n")
    server.arrives()
    server.open()
    data = b""
    while more := connection.recv(65536):
        data += more
    server.call(server.gate.open.clear)
    assert data.index(b"echo wait one") < data.index(b"HTTP/1.1 400 Bad Request")


def test_an_upgrade_is_not_done_and_the_request_answered(connection: socket.socket) -> None:
    """Java's client asks for HTTP/2 like this by default."""
    h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA")
    assert exchange(connection, post(ROOT, b"x", *h2c))[::2] == (200, b"echo x")
    assert exchange(connection, post(ROOT, b"y", *h2c))[::2] == (200, b"echo y")


def test_a_request_to_connect_is_refused_once(server: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """The parser takes it for an upgrade, whether it asks for one or not."""
    connect = b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"
    assert server.ask(connect)[0] == 405
    assert server.ask(post(ROOT, b"x").replace(b"POST", b"CONNECT"))[0] == 405
    assert server.ask(connect + connect)[0] == 405
    assert server.ask(post(ROOT, b"still there"))[2] == b"echo still there"
    assert not caplog.records


def test_an_upgrade_whose_head_is_refused_is_answered_once(server: Serving, caplog: pytest.LogCaptureFixture) -> None:
    many = [f"A{number}: b" for number in range(100)]
    assert server.ask(post(ROOT, b"x", "Connection: upgrade", "Upgrade: h2c", *many))[0] == 431
    assert not caplog.records


def test_a_client_that_ends_its_side_still_gets_its_answer(server: Serving, connection: socket.socket) -> None:
    connection.sendall(post(ROOT, b"wait"))
    server.arrives()
    connection.shutdown(socket.SHUT_WR)
    server.open()
    assert read_response(connection)[2] == b"echo wait"
    assert is_closed(connection)
    server.call(server.gate.open.clear)


# -- time ----------------------------------------------------------------------------------------------------------


def test_a_head_and_a_body_that_do_not_come_get_408(server: Serving) -> None:
    with server.connect() as head, server.connect() as body, server.connect() as idle:
        head.sendall(b"POST / HT")
        body.sendall(post(ROOT, b"12345")[:-1])
        assert exchange(idle, post(ROOT, b"x"))[0] == 200
        assert read_response(head)[0] == 408
        assert read_response(body)[0] == 408
        assert is_closed(idle)


def test_a_connection_that_says_nothing_is_closed(connection: socket.socket) -> None:
    assert is_closed(connection)


def test_bytes_now_and_then_do_not_keep_a_request_alive(server: Serving, connection: socket.socket) -> None:
    connection.settimeout(0.05)
    received = b""
    for _ in range(200):
        try:
            connection.sendall(b"A")
            received += connection.recv(1000)
        except TimeoutError:
            continue
        except OSError:
            break
        if received:
            break
    assert received == b"" or received.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))


# -- many ----------------------------------------------------------------------------------------------------------


def test_1500_slow_connections_do_not_keep_an_enrollment_waiting(world: World) -> None:
    """Counted, not timed: between the first and the last byte of the enrollment none of them was waited for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(1500, (hard - 200) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * number + 200), hard))
    bounds = Bounds(header_timeout_seconds=60)
    slow: list[socket.socket] = []
    with serving(bounds, app=lambda _: App(world.responder, threads=0)) as server:
        try:
            for _ in range(number):
                connection = server.connect()
                connection.sendall(b"POST /.well-known/cmp HTTP/1.1\r\nHost: x\r\nContent-")
                slow.append(connection)
            server.until(lambda: len(server.front.connections) == number)
            with server.connect() as connection:
                device = world.device(handle=lambda request: exchange(connection, post(ROOT, request))[2])
                device.enroll(KEYS[0])
            assert len(server.front.connections) >= number
            assert server.front.intake.refused == 0
        finally:
            for each in slow:
                each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_at_the_limit_the_connection_that_waits_longest_gives_way() -> None:
    with serving(Bounds(max_connections=3)) as server, server.connect() as first, server.connect() as second:
        server.until(lambda: len(server.front.connections) == 2)
        with server.connect() as busy, server.connect() as fourth:
            busy.sendall(post(ROOT, b"wait"))
            server.arrives()
            assert exchange(fourth, post(ROOT, b"x"))[0] == 200
            closed = [each for each in (first, second) if is_closed_now(each)]
            assert len(closed) == 1
            server.open()
            assert read_response(busy)[2] == b"echo wait"


def is_closed_now(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_when_all_connections_are_busy_another_one_gets_503() -> None:
    with serving(Bounds(max_connections=2)) as server, server.connect() as first, server.connect() as second:
        for each in (first, second):
            each.sendall(post(ROOT, b"wait"))
            server.arrives()
        with server.connect() as third:
            status, headers, _ = read_response(third)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "5", "close")


def test_one_address_may_have_so_many_connections() -> None:
    with serving(Bounds(max_connections_per_address=1)) as server, server.connect() as first:
        assert exchange(first, post(ROOT, b"x"))[0] == 200
        with server.connect() as second:
            assert read_response(second)[0] == 503
        first.close()
        server.until(lambda: not server.front.connections)
        assert server.ask(post(ROOT, b"x"))[0] == 200
        server.until(lambda: not server.front.of_address)


def test_bodies_in_all_are_bounded_and_the_count_goes_back_to_nothing() -> None:
    with serving(Bounds(max_buffered_bytes=50_000)) as server:
        with server.connect() as one, server.connect() as other:
            one.sendall(post(ROOT, b"wait" + bytes(40_000)))
            server.arrives()
            other.sendall(post(ROOT, bytes(20_001))[:-1])
            status, headers, _ = read_response(other)
            assert (status, headers["retry-after"]) == (503, "5")
            server.open()
            assert read_response(one)[0] == 200
        with server.connect() as gone:
            gone.sendall(post(ROOT, bytes(10_001))[:-1])
            server.until(lambda: server.front.buffered == 10_000)
        server.until(lambda: not server.front.connections)
        assert server.front.buffered == 0


def test_who_keeps_a_body_from_coming_gives_way_to_who_sends_one() -> None:
    with serving(Bounds(max_buffered_bytes=50_000)) as server, server.connect() as first, server.connect() as second:
        for number, each in enumerate((first, second), 1):
            each.sendall(post(ROOT, bytes(20_001))[:-1])
            server.until(lambda number=number: server.front.buffered == number * 20_000)  # type: ignore[misc]
        assert server.ask(post(ROOT, bytes(20_000)))[0] == 200
        with contextlib.suppress(ConnectionResetError):
            assert not first.recv(1)
        second.sendall(b"\0")
        assert read_response(second)[0] == 200
        server.until(lambda: not server.front.buffered)


def large(gate: Gate) -> App:
    """An application whose CRL is more than a socket takes."""
    crl = bytes(8 << 20)
    return App(gate, threads=0, crl=lambda: crl)


def test_answers_that_nobody_reads_are_bounded() -> None:
    with serving(Bounds(max_buffered_bytes=100_000), app=large) as server, contextlib.ExitStack() as stack:
        readers = [stack.enter_context(server.connect()) for _ in range(6)]
        for each in readers:
            each.sendall(b"GET /crl HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        server.until(lambda: len(server.front.connections) == 1)
        assert 0 < server.front.buffered <= (8 << 20) + 1000
        assert server.ask(post(ROOT, b"x"))[0] == 200
        status, _, crl = server.ask(b"GET /crl HTTP/1.0\r\n\r\n")
        assert (status, len(crl)) == (200, 8 << 20)
        stack.close()
        server.until(lambda: not server.front.buffered)


def test_who_does_not_read_is_late_also_when_it_has_asked_for_more() -> None:
    bounds = Bounds(idle_timeout_seconds=0.1, header_timeout_seconds=0.1)
    with serving(bounds, app=large) as server, server.connect() as pipelined, server.connect() as ended:
        pipelined.sendall(b"GET /crl HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        ended.sendall(b"GET /crl HTTP/1.0\r\n\r\n")
        server.until(lambda: server.front.buffered > 8 << 20)
        server.until(lambda: not server.front.connections)
        assert server.front.buffered == 0


@pytest.mark.parametrize("request_", [b"GET /crl HTTP/1.0\r\n\r\n", b"GET /crl HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_who_reads_slowly_gets_all_of_it(request_: bytes) -> None:
    """Each time that its deadline passes it has read a little more."""
    with serving(Bounds(idle_timeout_seconds=3600), app=large) as server, server.connect() as slow:
        slow.sendall(request_)
        server.until(lambda: server.front.buffered > 0)
        (connection,) = server.front.connections
        length, got = server.front.buffered, 0

        def its_deadline_passes() -> int:
            # On the loop's thread, so that nothing is sent between the look and the call.
            left: int = connection.transport.get_write_buffer_size()
            if 0 < left < length:
                connection.late()
                return left
            return length

        while got < 8 << 20:
            piece = slow.recv(1 << 20)
            assert piece
            got += len(piece)
            length = server.call(its_deadline_passes)


def test_beyond_the_queue_a_message_gets_503_and_a_pkimessage_that_says_so(world: World) -> None:
    device = world.device()
    device.begin()
    request = device.build(BodyType.IR, [crmf(KEYS[0])])
    with serving(Bounds(max_waiting=1, max_under_way=1, retry_after_seconds=7)) as server:
        with server.connect() as under_way, server.connect() as waiting:
            under_way.sendall(post(ROOT, b"wait"))
            server.arrives()
            waiting.sendall(post(ROOT, b"second"))
            server.until(lambda: server.front.intake.waiting == 1)
            assert server.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 503
            assert server.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
            status, headers, body = server.ask(post(ROOT, request))
            assert (status, headers["retry-after"], headers["content-type"]) == (503, "7", "application/pkixcmp")
            error = admit(body)
            assert said(error) == (BodyType.ERROR, FailureInfo.SYSTEM_UNAVAIL)
            assert error.transaction_id == device.transaction_id
            assert error.recip_nonce == device.sender_nonce
            server.open()
            assert read_response(under_way)[2] == b"echo wait"
            assert read_response(waiting)[2] == b"echo second"
        assert server.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200


def test_who_went_away_before_its_turn_is_not_worked_for() -> None:
    with serving(Bounds(max_under_way=1)) as server, server.connect() as under_way:
        under_way.sendall(post(ROOT, b"wait"))
        server.arrives()
        with server.connect() as gone:
            gone.sendall(post(ROOT, b"gone"))
            server.until(lambda: server.front.intake.waiting == 1)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
        server.until(lambda: len(server.front.connections) == 1)
        server.open()
        assert read_response(under_way)[2] == b"echo wait"
        assert server.ask(post(ROOT, b"x"))[2] == b"echo x"
        assert b"gone" not in [body for body, _ in server.gate.asked]


def test_readyz_asks_the_store() -> None:
    works = threading.Event()

    def ready() -> None:
        if not works.is_set():
            raise OSError("no database")

    with serving(app=lambda gate: App(gate, threads=0, ready=ready)) as server:
        assert server.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 503
        works.set()
        assert server.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200


# -- proxies -------------------------------------------------------------------------------------------------------

CERTIFICATE = b"\x30\x03\x02\x01\x01"
CLIENT_CERT = f"Client-Cert: :{base64.b64encode(CERTIFICATE).decode()}:"


@pytest.mark.parametrize(
    ("headers", "peer"),
    [
        ((), Peer(address="127.0.0.1")),
        (("X-Forwarded-For: 192.0.2.1",), Peer(address="192.0.2.1")),
        (("X-Forwarded-For: 10.0.0.1, 192.0.2.1, 198.51.100.7",), Peer(address="192.0.2.1")),
        (("X-Forwarded-For: 192.0.2.1:50123",), Peer(address="192.0.2.1")),
        (("X-Forwarded-For: [2001:db8::1]:50123, 198.51.100.7:80",), Peer(address="2001:db8::1")),
        (("X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 192.0.2.1"), Peer(address="192.0.2.1")),
        (('Forwarded: for="[2001:db8::1]:4711";proto=https, for=198.51.100.7',), Peer(address="2001:db8::1")),
        (("Forwarded: For=192.0.2.9:80",), Peer(address="192.0.2.9")),
        ((CLIENT_CERT,), Peer(address="127.0.0.1", tls_certificate=CERTIFICATE)),
    ],
)
def test_a_trusted_proxy_tells_who_is_behind_it(headers: tuple[str, ...], peer: Peer) -> None:
    with serving(trusted=("127.0.0.0/8", "198.51.100.7")) as server:
        assert server.ask(post(ROOT, b"x", *headers))[0] == 200
        assert server.gate.asked == [(b"x", peer)]


def test_nobody_else_is_believed() -> None:
    with serving(trusted=("192.0.2.1",)) as server:
        server.ask(post(ROOT, b"x", "X-Forwarded-For: 192.0.2.9", "Forwarded: for=192.0.2.9", CLIENT_CERT))
        assert server.gate.asked == [(b"x", Peer(address="127.0.0.1"))]


def test_a_head_that_is_known_tells_a_proxy_nothing_of_others() -> None:
    with serving(trusted=("127.0.0.1",)) as server, server.connect() as connection:
        for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
            exchange(connection, post(ROOT, b"x", f"X-Forwarded-For: {client}"))
            assert server.gate.asked[-1][1] == Peer(address=client)
        assert not server.front.heads


def test_trailers_tell_nothing_of_who_asks() -> None:
    chunked = post(ROOT, b"", "X-Forwarded-For: 192.0.2.1", "Transfer-Encoding: chunked").replace(
        b"Content-Length: 0\r\n", b""
    )
    body = b"1\r\nx\r\n0\r\nClient-Cert: :AAAA:\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
    with serving(trusted=("127.0.0.1",)) as server:
        assert server.ask(chunked + body)[2] == b"echo x"
        assert server.gate.asked == [(b"x", Peer("192.0.2.1"))]


@pytest.mark.parametrize("value", ["x", "::", ":x:", ":====:", "MAMCAQE="])
def test_a_malformed_client_cert_is_refused(value: str) -> None:
    with serving(trusted=("127.0.0.1",)) as server:
        assert server.ask(post(ROOT, b"x", f"Client-Cert: {value}"))[0] == 400
        assert not server.gate.asked


# -- the end -------------------------------------------------------------------------------------------------------


def test_draining_answers_what_was_begun_and_closes_the_rest() -> None:
    with serving() as server, server.connect() as under_way, server.connect() as idle, server.connect() as new:
        under_way.sendall(post(ROOT, b"wait"))
        server.arrives()
        assert exchange(idle, post(ROOT, b"x"))[0] == 200
        server.until(lambda: len(server.front.connections) == 3)
        ending = asyncio.run_coroutine_threadsafe(server.front.drain(20), server.loop)
        assert is_closed(idle)
        assert is_closed(new)
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        assert not ending.done()
        server.open()
        status, headers, body = read_response(under_way)
        assert (status, headers["connection"], body) == (200, "close", b"echo wait")
        assert ending.result(20) is True


def test_what_takes_longer_than_draining_may_is_cut_off() -> None:
    with serving() as server, server.connect() as under_way:
        under_way.sendall(post(ROOT, b"wait"))
        server.arrives()
        assert server.do(server.front.drain(0.05)) is False
        assert is_closed(under_way)


def test_what_arrives_while_draining_is_answered_and_readyz_says_so() -> None:
    with serving() as server, server.connect() as message, server.connect() as probe:
        request, question = post(ROOT, b"late"), b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
        message.sendall(request[:20])
        probe.sendall(question[:10])
        server.until(lambda: [each._fed for each in server.front.connections] == [20, 10])
        ending = asyncio.run_coroutine_threadsafe(server.front.drain(20), server.loop)
        server.until(lambda: server.front.draining)
        message.sendall(request[20:])
        assert read_response(message)[::2] == (200, b"echo late")
        probe.sendall(question[10:])
        assert read_response(probe)[0] == 503
        assert ending.result(20) is True


def test_tls_files_change_for_new_connections_only(tmp_path: Path) -> None:
    contexts = []
    for name in ("one", "two"):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -out c.pem -keyout c.key"
        command += f" -subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
        subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
        context = ServerSettings(tls_certificate=tmp_path / "c.pem", tls_key=tmp_path / "c.key").tls()
        assert context is not None
        contexts.append(context)
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with serving(tls=contexts[0]) as server:
        with server.connect() as plain, anybody.wrap_socket(plain) as first:
            assert exchange(first, post(ROOT, b"x"))[2] == b"echo x"
            server.do(server.front.change_tls(contexts[1]))
            assert exchange(first, post(ROOT, b"y"))[2] == b"echo y"
            with server.connect() as other, anybody.wrap_socket(other) as second:
                assert b"two" in (second.getpeercert(binary_form=True) or b"")
                assert exchange(second, post(ROOT, b"z", "Connection: close"))[2] == b"echo z"
        assert server.gate.asked[0] == (b"x", Peer(address="127.0.0.1"))


def test_the_store_says_which_messages_carry_on(world: World) -> None:
    device = world.device()
    device.ask(BodyType.IR, crmf(KEYS[0]))
    with serving(app=lambda _: App(world.responder, threads=0)) as server:
        assert server.call(lambda: server.front._knows(BodyType.IR, device.transaction_id))
        assert not server.call(lambda: server.front._knows(BodyType.CERT_CONF, b"unknown"))
    with serving(app=lambda _: App(world.responder, threads=1)) as server:
        assert server.call(lambda: server.front._knows(BodyType.CERT_CONF, b"unknown"))
        assert not server.call(lambda: server.front._knows(BodyType.IR, device.transaction_id))
        device.begin()
        answer = admit(server.ask(post(ROOT, device.build(BodyType.IR, [crmf(KEYS[1], "CN=other")])))[2])
        assert answer.body_type is BodyType.IP


def test_bounds_are_more_than_nothing() -> None:
    with pytest.raises(ValueError, match="max_headers"):
        Bounds(max_headers=0)


@pytest.mark.parametrize(
    ("forwarded", "address"), [("unknown", "unknown"), ("192.0.2.1, ::ffff:127.0.0.1", "192.0.2.1")]
)
def test_what_is_no_address_is_not_a_proxy_of_ours(forwarded: str, address: str) -> None:
    with serving(trusted=("127.0.0.1",)) as server:
        server.ask(post(ROOT, b"x", f"X-Forwarded-For: {forwarded}"))
        assert server.gate.asked == [(b"x", Peer(address=address))]
