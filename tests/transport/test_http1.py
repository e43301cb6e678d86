"""HTTP as bytes: no sockets here."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensslcmp.errors import TransportError
from opensslcmp.transport import http1
from opensslcmp.transport.http1 import Answer, AnswerReader, message_of, parse_url

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/pkixcmp\r\n"


def read(wire: bytes, *, limit: int = 1000, end: bool = False, step: int | None = None) -> Answer | None:
    reader = AnswerReader(limit)
    for start in range(0, len(wire), step or len(wire)):
        if answer := reader.feed(wire[start : start + (step or len(wire))]):
            return answer
    return reader.end() if end else None


def body(wire: bytes, *, step: int | None = None) -> bytes:
    answer = read(wire, step=step)
    assert answer is not None
    return answer.body


WHOLE = [
    (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    (OK + b"Content-Length: 0\r\n\r\n", b""),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=1\r\nhe\r\n03\r\nllo\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", b"hi"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
]


@pytest.mark.parametrize(("wire", "content"), WHOLE)
def test_an_answer_is_read_alike_in_one_piece_and_byte_by_byte(wire: bytes, content: bytes) -> None:
    assert body(wire) == body(wire, step=1) == body(wire, step=3) == content


def test_an_answer_without_length_ends_with_its_connection() -> None:
    answer = read(OK + b"\r\nhello", end=True)
    assert answer is not None
    assert (answer.body, answer.reusable) == (b"hello", False)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        OK,
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
def test_an_answer_that_is_cut_off_is_an_error(wire: bytes) -> None:
    with pytest.raises(TransportError, match="ended"):
        read(wire or b"", end=True, step=max(1, len(wire)))


REFUSED = [
    b"SSH-2.0-OpenSSH_9\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1  200 OK\r\n\r\n",
    b"HTTP/1.1 200 O\x00K\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"\r\n\r\n",
    OK + b"No colon\r\n\r\n",
    OK + b"Space : x\r\n\r\n",
    OK + b" folded\r\n\r\n",
    OK + b"X: a\rb\r\n\r\n",
    OK + b"X: a\nContent-Length: 0\r\n\r\n",
    OK + b"X: \x00\r\n\r\n",
    OK + b"Content-Length: -1\r\n\r\n",
    OK + b"Content-Length: +1\r\n\r\n",
    OK + b"Content-Length: 0x5\r\n\r\n",
    OK + b"Content-Length: 1_0\r\n\r\n",
    OK + b"Content-Length: \xb2\r\n\r\n",
    OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    OK + b"Content-Length: 5, 5\r\n\r\n",
    OK + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n",
    OK + b"Content-Length: 1001\r\n\r\n",
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
    OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n111111111\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
    OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n",
    OK + b"\r\n" + b"x" * 1001,
    OK + b"X: y\r\n" * 200 + b"\r\n",
    OK + b"X: " + b"y" * 70_000,
    OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000,
    b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
]


@pytest.mark.parametrize("wire", REFUSED)
@pytest.mark.parametrize("step", [None, 7])
def test_what_can_be_misunderstood_or_is_too_much_is_refused(wire: bytes, step: int | None) -> None:
    with pytest.raises(TransportError):
        read(wire, step=step)


def test_many_tiny_chunks_are_refused_before_they_cost_much() -> None:
    with pytest.raises(TransportError, match="surrounds"):
        read(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000, limit=1_000_000)


@pytest.mark.parametrize(
    ("first", "fields", "kept"),
    [
        (b"HTTP/1.1 200 OK", b"", True),
        (b"HTTP/1.1 200 OK", b"Connection: close\r\n", False),
        (b"HTTP/1.1 200 OK", b"Connection: Foo, Close\r\n", False),
        (b"HTTP/1.0 200 OK", b"", False),
        (b"HTTP/1.0 200 OK", b"Connection: Keep-Alive\r\n", True),
        (b"HTTP/1.0 200 OK", b"Connection: keep-alive\r\nConnection: close\r\n", False),
    ],
)
def test_a_connection_is_kept_when_both_sides_say_so(first: bytes, fields: bytes, kept: bool) -> None:
    answer = read(first + b"\r\n" + fields + b"Content-Length: 1\r\n\r\nx")
    assert answer is not None
    assert answer.reusable is kept


def test_a_connection_with_bytes_after_the_answer_is_not_kept() -> None:
    answer = read(OK + b"Content-Length: 1\r\n\r\nxHTTP/1.1 200 forged")
    assert answer is not None
    assert (answer.body, answer.reusable) == (b"x", False)


def test_a_tunnel_has_no_content_and_nothing_before_tls() -> None:
    granted = b"HTTP/1.0 200 Connection established\r\nContent-Length: 7\r\n\r\n"
    answer = AnswerReader(10, tunnel=True).feed(granted)
    assert answer is not None
    assert answer.body == b""
    with pytest.raises(TransportError, match="CONNECT"):
        AnswerReader(10, tunnel=True).feed(granted + b"x")


@given(st.binary(max_size=300), st.integers(1, 40))
def test_no_answer_raises_anything_but_transport_error(noise: bytes, step: int) -> None:
    for head in (b"", b"HTTP/1.1 200 ", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(TransportError):
            answer = read(head + noise, end=True, step=step)
            assert answer is not None
            message_of(answer)


def answer(status: int, content: bytes = b"", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, reason="Words", headers=fields, body=content, reusable=True)


@pytest.mark.parametrize("status", [200, 201, 202, 400, 404, 422, 500, 503])
@pytest.mark.parametrize(
    "kind",
    [
        "application/pkixcmp",
        "application/pkixcmp; charset=x",
        "Application/PKIXCMP",
        "application/pkixcmp-poll",
        "application/x-pkixcmp",
    ],
)
def test_a_message_is_returned_under_any_status_that_may_carry_one(status: int, kind: str) -> None:
    assert message_of(answer(status, b"0\x00", content_type=kind)) == b"0\x00"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            answer(200, b"<h1>Log\x1b[2J in</h1>", content_type="text/html"),
            "text/html, not application/pkixcmp: <h1>Log",
        ),
        (answer(200, b"x"), "of no type"),
        (answer(404), "HTTP 404 Words: without content"),
        (answer(301, location="https://elsewhere/\x07"), "redirects to https://elsewhere/"),
        (answer(302, b"0\x00", content_type="application/pkixcmp"), "redirects to nowhere"),
        (answer(200, content_type="application/pkixcmp"), "without content"),
    ],
)
def test_anything_else_is_an_error_that_says_what_came(given: Answer, words: str) -> None:
    with pytest.raises(TransportError) as raised:
        message_of(given)
    assert words in str(raised.value)
    assert str(raised.value).isprintable()


def test_an_excerpt_is_short() -> None:
    with pytest.raises(TransportError) as raised:
        message_of(answer(500, b"x" * 10_000, content_type="text/plain"))
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_announcement_may_be_acknowledged_without_content(status: int) -> None:
    assert message_of(answer(status), announcement=True) == b""
    with pytest.raises(TransportError):
        message_of(answer(status))


@pytest.mark.parametrize("status", [203, 204, 400, 500])
def test_another_status_does_not_acknowledge_an_announcement(status: int) -> None:
    with pytest.raises(TransportError):
        message_of(answer(status), announcement=True)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://ca", ("http", "ca", 80, "/", "ca")),
        ("HTTPS://CA.example/.well-known/cmp?x=1", ("https", "ca.example", 443, "/.well-known/cmp?x=1", "ca.example")),
        ("ca:8080/pkix/", ("http", "ca", 8080, "/pkix/", "ca:8080")),
        ("http://[::1]:829/", ("http", "::1", 829, "/", "[::1]:829")),
        ("https://ca:443/x#part", ("https", "ca", 443, "/x", "ca")),
    ],
)
def test_a_url_is_taken_apart(url: str, target: tuple[str, str, int, str, str]) -> None:
    parsed = parse_url(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.path, parsed.authority) == target


def test_a_password_in_a_url_is_sent_but_never_shown() -> None:
    parsed = parse_url("http://user:se%40cret@ca/x")
    assert parsed.authorization == "Basic dXNlcjpzZUBjcmV0"
    assert str(parsed) == repr(parsed) == "http://ca/x"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http:///x",
        "ftp://ca/",
        "http://ca:0/",
        "http://ca:99999/",
        "http://ca:x/",
        "http://ca/a b",
        "http://ca/\r\nX: y",
        "http://ca\r\nX: y/",
        "http://c%0d%0aa/",
        "http://cä/",
        "http://ca/ä",
        "http://[::1/",
        "http://a,b/",
    ],
)
def test_a_url_that_could_be_misunderstood_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url(url)


def test_a_refused_url_is_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"port") as raised:
        parse_url("http://user:secret@ca:99999/")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("field", [("X", "a\r\nb"), ("X\r\nY", "a"), ("X", "ä"), ("X", "\0"), ("Host", "x"), ("", "x")])
def test_a_header_field_cannot_smuggle_another(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header field"):
        http1.check_headers([field])


def test_a_request_names_what_it_carries() -> None:
    target = parse_url("http://user:x@ca:8080/p")
    head = http1.request_head(target, absolute=False, keep_alive=True, headers=[("X-Key", "1")])
    assert head.startswith(b"POST /p HTTP/1.1\r\nHost: ca:8080\r\nConnection: keep-alive\r\n")
    assert b"\r\nContent-Type: application/pkixcmp\r\n" in head
    assert b"\r\nAuthorization: Basic dXNlcjp4\r\nX-Key: 1\r\nContent-Length: " in head
    assert http1.request_head(target, absolute=True, keep_alive=False, headers=[]).startswith(
        b"POST http://ca:8080/p HTTP/1.1\r\nHost: ca:8080\r\nConnection: close\r\n"
    )
