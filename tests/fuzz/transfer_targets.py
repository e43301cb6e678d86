"""How messages come: HTTP, TCP, CoAP, files and mail. Whatever is sent, the server answers the next one who asks well."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from opensslcmp.errors import TransportError
from opensslcmp.server.mailbox_front import MailboxFront, is_whole
from opensslcmp.transport.http1 import AnswerReader, message_of, parse_url
from opensslcmp.transport.mail_message import compose, open_letter, parse_letter
from opensslcmp.transport.mailbox import Mailbox, Unusable
from opensslcmp.transport.tcp_message import TCPMessage, TCPReader, TCPType
from tests.fuzz.engine import Target
from tests.fuzz.server_targets import complaints
from tests.server.front_world import Serving, serving
from tests.transport.http_peers import reply

BODY = b"\x30\x03\x02\x01\x07"
_OFTEN = 16


def _post(*lines: str, path: str = "/.well-known/cmp", version: str = "1.1", body: bytes = BODY) -> bytes:
    head = [f"POST {path} HTTP/{version}", "Host: a", "Content-Type: application/pkixcmp", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


_LENGTH = f"Content-Length: {len(BODY)}"
REQUESTS = [
    _post(_LENGTH),
    _post(_LENGTH) * 3,
    _post(_LENGTH, "Connection: close", version="1.0"),
    _post(_LENGTH, "Connection: keep-alive", version="1.0", path="/.well-known/cmp/p/x/initialization"),
    _post("Transfer-Encoding: chunked", body=b"3\r\n\x30\x03\x02\r\n2;a=b\r\n\x01\x07\r\n0\r\nTrailer: x\r\n\r\n"),
    _post(_LENGTH, "Transfer-Encoding: chunked", body=b"5\r\n\x30\x03\x02\x01\x07\r\n0\r\n\r\n"),
    _post(_LENGTH, "Expect: 100-continue"),
    _post(_LENGTH, "Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1, 192.0.2.2"),
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
]
ANSWERS = [
    reply(),
    reply(status="404 Not Found", kind="text/plain", body=b"no"),
    reply(version="1.0", Connection="keep-alive"),
    reply(status="503 Busy", Retry_After="3"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + reply(),
    b"HTTP/1.1 200 OK\r\nContent-Type: application/pkixcmp\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\n\x30\x03\x02\r\n2\r\n\x01\x07\r\n0\r\nT: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/pkixcmp\r\n\r\n" + BODY,
    b"HTTP/1.1 307 Temporary\r\nLocation: http://b/\r\nContent-Length: 0\r\n\r\n",
]


def _conversation(address: tuple[str, int], chance: random.Random, data: bytes) -> bytes:
    """What the server says to this, in one piece or several, until it ends the connection or we have enough."""
    answer = b""
    with socket.create_connection(address, 5) as connection:
        connection.settimeout(5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((0, 0, 1, 3))))
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                connection.sendall(data[start:end])
            if chance.random() < 0.1:
                return answer  # and away
            connection.shutdown(socket.SHUT_WR)
            while len(answer) < 1 << 20 and (more := connection.recv(65536)):
                answer += more
    return answer


@contextlib.contextmanager
def http_front() -> Iterator[Target]:
    """Connections to ``opensslcmp serve``."""
    with complaints() as listening, serving() as server:
        count = 0

        def run(chance: random.Random, data: bytes) -> None:
            nonlocal count
            answer = _conversation(server.address, chance, data)
            assert not answer or answer.startswith(b"HTTP/1."), answer[:50]
            listening.check()
            count += 1
            if count % _OFTEN == 0:
                assert server.ask(_post(_LENGTH))[0] == 200

        yield Target(name="http", seeds=REQUESTS, run=run, der=False)


@contextlib.contextmanager
def http_client() -> Iterator[Target]:
    """What a server may answer, in pieces; and URLs."""

    def run(chance: random.Random, data: bytes) -> None:
        reader = AnswerReader(10_000, tunnel=chance.random() < 0.1)
        at = 0
        try:
            while (found := reader.feed(data[at : (to := at + chance.choice((1, 7, 100, 1 << 20)))])) is None:
                at = to
                if at >= len(data):
                    found = reader.end()
                    break
            assert len(message_of(found)) <= 10_000
        except TransportError:
            pass
        with contextlib.suppress(ValueError):
            parse_url(data[:200].decode("latin-1"))

    yield Target(name="http-client", seeds=ANSWERS, run=run, der=False)


@contextlib.contextmanager
def tcp_front() -> Iterator[Target]:
    """Connections to a server of TCP-messages, and answers of one."""
    from tests.server.test_tcp_front import over_tcp

    kinds = [TCPMessage(kind=kind, value=BODY) for kind in TCPType]
    kinds += [
        TCPMessage(kind=TCPType.POLL_REQUEST, value=bytes(4)),
        TCPMessage(kind=TCPType.PKI_REQUEST, value=BODY, version=0),
    ]
    seeds = [each.encode() for each in kinds]
    with complaints() as listening, over_tcp() as over:
        address = ("127.0.0.1", over.port)
        count = 0

        def run(chance: random.Random, data: bytes) -> None:
            nonlocal count
            _conversation(address, chance, data)
            listening.check()
            reader = TCPReader(10_000)
            with contextlib.suppress(TransportError):
                found = reader.feed(data) or reader.end()
                for name in "message", "poll", "error":
                    with contextlib.suppress(TransportError):
                        getattr(found, name)
            count += 1
            if count % _OFTEN == 0:
                assert BODY in _conversation(address, random.Random(1), seeds[0])

        yield Target(name="tcp", seeds=[*seeds, seeds[0] * 3], run=run, der=False)


@contextlib.contextmanager
def coap_front() -> Iterator[Target]:
    """Datagrams to a server of CoAP."""
    import aiocoap

    from tests.server.test_coap_front import over_coap

    def datagram(code: int, **options: object) -> bytes:
        message = aiocoap.Message(code=code, payload=BODY, content_format=259, **options)
        message.opt.uri_path = (".well-known", "cmp")
        message.mtype, message.mid, message.token = aiocoap.CON, 7, b"\1\2"
        return bytes(message.encode())

    seeds = [datagram(aiocoap.POST), datagram(aiocoap.GET), datagram(aiocoap.POST, block1=(0, True, 6))]
    logging.getLogger("coap-server").setLevel(logging.CRITICAL)  # which tells of each datagram
    with over_coap() as over, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
        to.connect(("127.0.0.1", over.port))
        to.setblocking(False)
        count = 0

        def run(chance: random.Random, data: bytes) -> None:
            nonlocal count
            with contextlib.suppress(OSError):
                to.send(data[:2000])
                to.recv(65536)
            count += 1
            if count % 200 == 0:
                assert over.ask().payload.startswith(b"echo "), "the server does not answer any more"

        yield Target(name="coap", seeds=seeds, run=run, der=False)


@contextlib.contextmanager
def letters() -> Iterator[Target]:
    """Mails to a server."""
    letter = compose(BODY, "a@example.org", "ca+label@example.org").as_bytes()
    mixed = (
        b'From: a@example.org\r\nTo: ca@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n'
        b"--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n--x\r\nContent-Type: application/pkixcmp\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nMAMCAQc=\r\n--x--\r\n"
    )

    def run(_: random.Random, data: bytes) -> None:
        with contextlib.suppress(Unusable):
            open_letter(data, "ca@example.org", 1000)
        with contextlib.suppress(Unusable):
            parse_letter(data)

    yield Target(name="mail", seeds=[letter, mixed], run=run, der=False, quick=True)


@contextlib.contextmanager
def mailbox() -> Iterator[Target]:
    """Files in a directory that is watched; their names too."""
    with complaints() as listening, tempfile.TemporaryDirectory() as place, serving() as server:
        box = Mailbox(place)
        box.create()
        front = server.do(_watching(server, box))

        labelled = box.requests / "p" / "label"
        labelled.mkdir(parents=True)

        def run(chance: random.Random, data: bytes) -> None:
            is_whole(data)
            name = data[:1].hex() + chance.choice((".pki", ".PKI", ".tmp", "", ".pki.pki", " .pki"))
            path = Path(chance.choice((box.requests, box.requests, box.answers, labelled)), name)
            with contextlib.suppress(OSError):
                path.write_bytes(data[1:])
            for found, label in box.waiting(10):
                with contextlib.suppress(Unusable, OSError), box.claimed(found, 1000) as content:
                    assert content is None or len(content) <= 1000
                with contextlib.suppress(OSError):
                    box.describe(found, label)
            listening.check()
            if chance.random() < 0.1:
                for each in box.requests.iterdir():
                    if each.is_file():
                        each.unlink(missing_ok=True)

        try:
            yield Target(name="mailbox", seeds=[b"a" + BODY, b"b" + BODY * 300], run=run, der=False)
        finally:
            server.do(front.drain(5.0))


async def _watching(server: Serving, box: Mailbox) -> MailboxFront:
    front = MailboxFront(server.front, box, look_seconds=0.05)
    await front.start()
    return front
