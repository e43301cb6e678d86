"""CMP by e-mail, both ends, over a real SMTP server on loopback that delivers into Maildirs."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from opensslcmp import Session
from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.server.app import App
from opensslcmp.server.mailbox_front import MailboxFront
from opensslcmp.server.maildir import Maildir
from opensslcmp.server.transfer_settings import TransferSettings
from opensslcmp.transport import AsyncMailTransport, MailTransport, async_transport_for, transport_for
from opensslcmp.transport.mail_message import Mailer, compose
from tests.interop.test_operations import make_tls
from tests.server.front_world import Gate, Serving, serving
from tests.server.transfer_world import TWINS, Site

SERVER, DEVICE = "cmp@ca.example", "device@example.com"
REQUEST = b"\x30\x03\x02\x01\x07"


class Post:
    """Delivers to ``PLACE/ADDRESS``, without what stands after "+"."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.numbers = itertools.count()
        self.delivered: list[str] = []

    def maildir(self, address: str) -> Path:
        found = self.place / address
        for each in ("new", "cur", "tmp"):
            (found / each).mkdir(parents=True, exist_ok=True)
        return found

    def deliver(self, address: str, content: bytes) -> None:
        name = f"{time.time_ns()}.{next(self.numbers)}.localhost"
        maildir = self.maildir(address)
        (maildir / "tmp" / name).write_bytes(content)
        os.utime(maildir / "tmp" / name, (1, 1))
        (maildir / "tmp" / name).rename(maildir / "new" / name)
        self.delivered.append(address)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 -- aiosmtpd's name
        if b"refuse me" in envelope.content:
            return "550 no"
        for each in envelope.rcpt_tos:
            local, _, domain = each.partition("@")
            self.deliver(f"{local.partition('+')[0]}@{domain}", envelope.content)
        return "250 OK"


@contextmanager
def by_mail(tmp_path: Path, app: Callable[[Gate], App] | None = None) -> Iterator[tuple[Serving, Post, str]]:
    """A server, the post, and the URL of a client."""
    post = Post(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(post, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        with serving(app=app) as server:
            box = Maildir(post.maildir(SERVER), SERVER, Mailer(port=port))

            async def start() -> MailboxFront:
                made = MailboxFront(server.front, box, look_seconds=0.01)
                await made.start()
                return made

            made = server.do(start())
            post.maildir(DEVICE)
            url = f"mailto:{SERVER}?from={DEVICE}&maildir={tmp_path / DEVICE}&smtp=127.0.0.1:{port}"
            try:
                yield server, post, url
            finally:
                assert server.do(made.drain(5.0))
    finally:
        controller.stop()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@TWINS
def test_a_certificate_comes_by_mail_at_once_and_by_polling(twin: Callable[..., Session], tmp_path: Path) -> None:
    site = Site()
    with by_mail(tmp_path, site.app) as (_, post, url):
        site.enroll_twice(twin, url)
        until(lambda: not list((post.maildir(SERVER) / "new").iterdir()))
        assert post.delivered == [SERVER, DEVICE] * 5
        assert not list((post.maildir(DEVICE) / "new").iterdir())
    assert {each.peer.address for each in site.events} == {f"mailto:{DEVICE}"}


def test_a_label_stands_in_the_address(tmp_path: Path) -> None:
    with by_mail(tmp_path) as (server, _, url):
        assert MailTransport(url.replace("cmp@", "cmp%2Bfactory@"), look_seconds=0.01).send(REQUEST, 20)
        assert [peer.label for _, peer in server.gate.asked] == ["factory"]


def letter(**fields: str) -> EmailMessage:
    made = compose(REQUEST, DEVICE, SERVER)
    for name, value in fields.items():
        del made[name.replace("_", "-")]
        if value:
            made[name.replace("_", "-")] = value
    return made


def text(content: str) -> EmailMessage:
    made = letter()
    made.set_content(content)
    return made


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (letter(Auto_Submitted="auto-replied").as_bytes(), "a program sent it"),
        (letter(Auto_Submitted="auto-generated; x=y").as_bytes(), "a program sent it"),
        (letter(Precedence="bulk").as_bytes(), "a mailing list"),
        (letter(List_Id="<list.example>").as_bytes(), "a mailing list"),
        (letter(Return_Path="<>").as_bytes(), "came back"),
        (b"Content-Type: multipart/report; boundary=x\r\n\r\n--x--\r\n", "came back"),
        (letter(From="CMP@CA.example").as_bytes(), "from ourselves"),
        (letter(From="").as_bytes(), "no address to answer to"),
        (letter(From="nobody").as_bytes(), "no address to answer to"),
        (text("hello").as_bytes(), "0 parts of type application/pkixcmp"),
        (b"", "no address to answer to"),
        (b"\xff\x00" * 999, "no address to answer to"),
        (b"From: " + DEVICE.encode() + b"\r\nContent-Type: application/pkixcmp\r\n\r\n" + bytes(99), "not one PKIMess"),
        (bytes(3 << 20), "more than 2162688 bytes"),
    ],
)
def test_what_is_not_answered_is_moved_aside_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with by_mail(tmp_path) as (server, post, _):
        post.deliver(SERVER, content)
        rejected = post.maildir(SERVER) / ".Rejected"
        until(lambda: list(rejected.glob("*.reason")))
        (told,) = rejected.glob("*.reason")
        assert reason in told.read_text()
        (moved,) = (rejected / "new").iterdir()
        assert moved.read_bytes() == content
        assert server.gate.asked == []
        assert post.delivered == [SERVER]


def test_several_parts_and_many_parts_are_refused(tmp_path: Path) -> None:
    two, many = EmailMessage(), EmailMessage()
    for made, number in ((two, 2), (many, 40)):
        made["From"] = DEVICE
        for _ in range(number):
            made.add_attachment(REQUEST, "application", "pkixcmp")
    with by_mail(tmp_path) as (_, post, _):
        for made in (two, many):
            post.deliver(SERVER, made.as_bytes())
        rejected = post.maildir(SERVER) / ".Rejected"
        until(lambda: len(list(rejected.glob("*.reason"))) == 2)
        reasons = " ".join(sorted(each.read_text() for each in rejected.glob("*.reason")))
        assert "it has 2 parts of type" in reasons
        assert "more than 32 parts" in reasons


def test_one_part_among_others_is_a_request(tmp_path: Path) -> None:
    made = EmailMessage()
    made["From"] = f"A Device <{DEVICE}>"
    made.set_content("a request")
    made.add_attachment(REQUEST, "application", "pkixcmp")
    with by_mail(tmp_path) as (server, post, _):
        post.deliver(SERVER, made.as_bytes())
        until(lambda: post.delivered == [SERVER, DEVICE])
        assert server.gate.asked[0][0] == REQUEST
        (answer,) = (post.maildir(DEVICE) / "new").iterdir()
        assert b"Auto-Submitted: auto-replied" in answer.read_bytes()


def test_an_answer_that_comes_late_is_found_by_the_same_request(tmp_path: Path) -> None:
    with by_mail(tmp_path) as (_, post, url):
        (post.maildir(DEVICE) / "cur" / "other").write_bytes(b"Subject: hello\r\n\r\n")
        transport = MailTransport(url, look_seconds=0.01)
        with pytest.raises(TimedOut, match="no answer yet"):
            transport.send(REQUEST, 0)
        until(lambda: post.delivered == [SERVER, DEVICE])
        assert transport.send(REQUEST, 0) == b"echo " + REQUEST
        assert post.delivered == [SERVER, DEVICE]  # nothing was sent again
        assert [each.name for each in (post.maildir(DEVICE) / "cur").iterdir()] == ["other"]


@pytest.mark.parametrize("kind", [MailTransport, AsyncMailTransport], ids=["threads", "asyncio"])
def test_what_goes_wrong_is_told_to_the_client(kind: Any, tmp_path: Path) -> None:
    def send(url: str, timeout: float) -> bytes:
        if kind is MailTransport:
            answer: bytes = kind(url).send(REQUEST, timeout)
        else:
            answer = asyncio.run(kind(url).send(REQUEST, timeout))
        return answer

    with by_mail(tmp_path) as (_, post, url):
        with pytest.raises(TransportError, match="No such file"):
            send(url.replace(str(tmp_path), str(tmp_path / "nowhere")), 20)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            elsewhere = f"{url.rpartition(':')[0]}:{closed.getsockname()[1]}"
            with pytest.raises(TransportError, match="refused"):
                send(elsewhere, 20)
        reply = compose(REQUEST, SERVER, DEVICE, answers=compose(REQUEST, DEVICE, SERVER)["Message-ID"])
        reply.set_content("sorry")
        post.deliver(DEVICE, reply.as_bytes())
        with pytest.raises(TimedOut, match="one that came cannot be used: it has 0 parts of type"):
            send(url, 0)
        assert send(url, 20) == b"echo " + REQUEST  # what anybody may have sent does not matter


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mailto:cmp", "the URL's address"),
        (f"mailto:{SERVER}", "from is not an address"),
        (f"mailto:{SERVER}?from={DEVICE}", "no maildir"),
        (f"mailto:{SERVER}?from={DEVICE}&maildir=x&colour=blue", "has no colour"),
        (f"mailto:{SERVER}?from={DEVICE}&maildir=x&smtp=x", "HOST:PORT"),
        (f"mailto:{SERVER}?from={DEVICE}&maildir=x&security=some", "none, starttls or tls"),
        (f"mailto:{SERVER}?from={DEVICE}&maildir=x&user=me", "needs starttls"),
        (f"mailto:{SERVER}%0d%0aBcc:x@y?from={DEVICE}&maildir=x", "the URL's address"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        transport_for(url)


def test_mailto_urls_make_mail_transports() -> None:
    url = f"mailto:{SERVER}?from={DEVICE}&maildir=x"
    assert repr(transport_for(url)) == f"MailTransport('mailto:{SERVER}')"
    assert isinstance(async_transport_for(url, proxy=""), AsyncMailTransport)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"maildir": Path("x")}, "mail_address is needed"),
        ({"mail_address": SERVER}, "maildir is needed"),
        ({"maildir": Path("x"), "mail_address": "cmp"}, "mail_address is not an address"),
        ({"smtp_user": "x"}, "smtp_user needs"),
    ],
)
def test_settings_of_mail_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TransferSettings(**values)


# -- SMTP that is secured ------------------------------------------------------------------------------------------


class _Login:
    """Takes one user with one password."""

    def __init__(self) -> None:
        self.users: list[bytes] = []

    def __call__(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"cmp", "pass wörd".encode())
        self.users.append(data.login)
        return AuthResult(success=known, handled=False)


@contextmanager
def secured(tmp_path: Path, security: str) -> Iterator[tuple[Post, _Login, int]]:
    """An SMTP server with TLS at once, or by STARTTLS, that wants a login."""
    make_tls(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem", tmp_path / "tls.key")
    post, login = Post(tmp_path), _Login()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options: dict[str, Any] = {"authenticator": login, "auth_required": True}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    else:
        options |= {"ssl_context": context, "auth_require_tls": False}  # it does not see that all of it is TLS
    controller = Controller(post, hostname="localhost", port=port, **options)
    controller.start()
    try:
        yield post, login, port
    finally:
        controller.stop()


@pytest.mark.filterwarnings(
    "ignore:Requiring AUTH while not requiring TLS"
)  # aiosmtpd does not see that all of it is TLS
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_over_tls_with_a_login(tmp_path: Path, security: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("pass wörd\nsomething else\n", encoding="utf-8")
    with secured(tmp_path, security) as (post, login, port):
        letter = compose(REQUEST, DEVICE, SERVER)
        fields: dict[str, Any] = {"host": "localhost", "port": port, "security": security, "user": "cmp"}
        mailer = Mailer(**fields, password_file=tmp_path / "password")
        with pytest.raises(OSError, match="certificate verify failed"):
            mailer.send(letter, DEVICE, SERVER)
        assert login.users == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))
        mailer.send(letter, DEVICE, SERVER)
        assert login.users == [b"cmp"]
        (delivered,) = (post.maildir(SERVER) / "new").iterdir()
        assert b"application/pkixcmp" in delivered.read_bytes()
        (tmp_path / "password").write_text("wrong")
        with pytest.raises(OSError, match="535") as caught:
            mailer.send(letter, DEVICE, SERVER)
        assert "wrong" not in str(caught.value)


def test_without_starttls_no_password_is_sent(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    post = Post(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(post, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        mailer = Mailer(
            host="127.0.0.1", port=port, security="starttls", user="cmp", password_file=tmp_path / "password"
        )
        with pytest.raises(OSError, match="STARTTLS"):
            mailer.send(compose(REQUEST, DEVICE, SERVER), DEVICE, SERVER)
    finally:
        controller.stop()
    assert post.delivered == []
