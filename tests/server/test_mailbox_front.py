"""A directory that is watched: whole enrollments, files that are no requests, workers that are killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from opensslcmp import Context, Session
from opensslcmp.client.failover import Retry
from opensslcmp.client.journal import Journal
from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.server import CA, open_responder
from opensslcmp.server.app import App
from opensslcmp.server.front import Bounds
from opensslcmp.server.mailbox_front import MailboxFront, is_whole
from opensslcmp.server.throttle import Later
from opensslcmp.transport import FileTransport
from opensslcmp.transport.mailbox import Mailbox, name_of
from tests.server.front_world import Gate, Serving, serving
from tests.server.transfer_world import SECRET, TWINS, Site
from tests.server.web_client import environment

REQUEST = b"\x30\x03\x02\x01\x07"


@contextmanager
def watching(
    directory: Path, app: Callable[[Gate], App] | None = None, bounds: Bounds | None = None, workers: int = 1
) -> Iterator[Serving]:
    """Workers of one mailbox, all in this process."""
    with serving(bounds, app=app) as server:

        async def start() -> list[MailboxFront]:
            made = [MailboxFront(server.front, Mailbox(directory), look_seconds=0.01) for _ in range(workers)]
            for each in made:
                await each.start()
            return made

        async def stop(made: list[MailboxFront]) -> None:
            server.gate.open.set()
            for each in made:
                assert await each.drain(5.0)

        made = server.do(start())
        try:
            yield server
        finally:
            server.do(stop(made))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def left(box: Mailbox) -> list[str]:
    """Names of all files in the mailbox, the directory's before them."""
    return sorted(str(each.relative_to(box.directory)) for each in box.directory.rglob("*") if not each.is_dir())


@TWINS
def test_a_certificate_comes_by_files_at_once_and_by_polling(twin: Callable[..., Session], tmp_path: Path) -> None:
    site, box = Site(), Mailbox(tmp_path / "box")
    with watching(box.directory, site.app, workers=3):
        site.enroll_twice(twin, f"file:{box.directory}")
        until(lambda: not left(box))
    assert {each.peer.address for each in site.events} == {f"file:uid={os.getuid()}"}
    assert len([each for each in site.events if each.body_type is not None]) == 5  # nobody answered twice


def test_a_label_is_a_directory(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    with watching(tmp_path) as server, closing(FileTransport(f"file:{tmp_path}?label=factory")) as transport:
        assert transport.send(REQUEST, 10) == b"echo " + REQUEST
        assert [(der, peer.label) for der, peer in server.gate.asked] == [(REQUEST, "factory")]
    assert left(box) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.pki", b"", "it is not one PKIMessage in DER"),
        ("garbage.pki", b"\xff" * 99, "it is not one PKIMessage in DER"),
        ("two.pki", REQUEST + REQUEST, "it is not one PKIMessage in DER"),
        ("cut.pki", REQUEST[:-1], "it is not one PKIMessage in DER"),
        ("huge.pki", b"\x30" * ((1 << 20) + 1), "it has more than 1048576 bytes"),
        ("name.txt", REQUEST, "its name is not made of"),
        ("with\nlines\x1b.pki", REQUEST, "its name is not made of"),
        ("x" * 250, REQUEST, "its name is not made of"),
    ],
    ids=str,
)
def test_what_is_no_request_is_moved_aside_with_a_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    box = Mailbox(tmp_path)
    box.create()
    path = box.requests / name
    path.write_bytes(content)
    os.utime(path, (1, 1))
    with watching(tmp_path, workers=2) as server:
        until(lambda: any(each.endswith(".reason") for each in left(box)))
        assert server.gate.asked == []
    (moved, told) = sorted(box.rejected.iterdir(), key=lambda each: each.suffix == ".reason")
    assert moved.read_bytes() == content
    assert told.read_text().startswith(reason)
    assert moved.name.isprintable()


def test_a_link_and_a_pipe_and_a_directory_are_no_requests(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "box")
    box.create()
    secret = tmp_path / "secret"
    secret.write_bytes(REQUEST)
    (box.requests / "link.pki").symlink_to(secret)
    os.mkfifo(box.requests / "pipe.pki")
    (box.requests / "directory.pki").mkdir()
    with watching(box.directory) as server:
        until(lambda: len(list(box.rejected.glob("*.reason"))) == 3)
        assert server.gate.asked == []
    assert {each.read_text() for each in box.rejected.glob("*.reason")} == {"it is no regular file\n"}
    assert secret.read_bytes() == REQUEST


def test_one_name_may_be_rejected_again(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    box.create()
    with watching(tmp_path):
        for number in range(2):
            path = tmp_path / "bad"
            path.write_bytes(b"bad")
            os.utime(path, (1, 1))
            path.rename(box.requests / "bad.pki")
            until(lambda number=number: len(list(box.rejected.glob("*.reason"))) == number + 1)  # type: ignore[misc]
    assert left(box) == [f"rejected/bad{each}" for each in (".1.pki", ".1.reason", ".pki", ".reason")]


def test_a_file_that_is_still_written_is_left_until_it_is_whole(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    with watching(tmp_path) as server:
        path = box.requests / "slow.pki"
        with path.open("wb") as file:
            file.write(REQUEST[:2])
            file.flush()
            server.until(lambda: True)
            file.write(REQUEST[2:])
        until((box.answers / "slow.pki").exists)
    assert left(box) == ["answers/slow.pki"]


def test_an_announcement_has_no_answer(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    box.create()

    class Silent(Gate):
        async def handle_async(self, der: bytes, peer: object) -> bytes:
            return b""

    (box.requests / "announcement.pki").write_bytes(REQUEST)
    with watching(tmp_path, lambda _: App(Silent(), threads=0)):
        until(lambda: not left(box))


def test_what_the_server_cannot_answer_now_stays(tmp_path: Path) -> None:
    class Moody(Gate):
        async def handle_async(self, der: bytes, peer: object) -> bytes:
            self.asked.append((der, peer))  # type: ignore[arg-type]
            if len(self.asked) == 1:
                raise RuntimeError("details")
            return Later.after(b"later", 1) if len(self.asked) == 2 else b"answer"

    moody = Moody()
    with watching(tmp_path, lambda _: App(moody, threads=0)):
        assert FileTransport(f"file:{tmp_path}").send(REQUEST, 20) == b"answer"
    assert len(moody.asked) == 3
    assert left(Mailbox(tmp_path)) == []


def test_a_request_that_another_worker_has_is_left_to_it(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    box.create()
    path = box.requests / "mine.pki"
    path.write_bytes(REQUEST)
    with path.open("rb") as mine, contextlib.ExitStack() as stack:
        fcntl.flock(mine, fcntl.LOCK_EX)
        server = stack.enter_context(watching(tmp_path))
        (box.requests / "other.pki").write_bytes(REQUEST)
        until((box.answers / "other.pki").exists)
        assert not (box.answers / "mine.pki").exists()
        fcntl.flock(mine, fcntl.LOCK_UN)
        until((box.answers / "mine.pki").exists)
        assert len(server.gate.asked) == 2


def test_what_takes_too_long_at_the_end_stays_for_another_worker(tmp_path: Path) -> None:
    with serving() as server:
        slow = b"\x30\x82\x00"  # never whole, so never asked
        assert not is_whole(slow)

        class Stuck(Gate):
            async def handle_async(self, der: bytes, peer: object) -> bytes:
                self.arrived.release()
                await self.open.wait()
                return b"never"

        stuck = Stuck()
        server.front.app.responder = stuck

        async def start() -> MailboxFront:
            made = MailboxFront(server.front, Mailbox(tmp_path), look_seconds=0.01)
            await made.start()
            return made

        made = server.do(start())
        (Mailbox(tmp_path).requests / "stuck.pki").write_bytes(REQUEST)
        assert stuck.arrived.acquire(timeout=10)
        assert not server.do(made.drain(0.01))
        server.call(stuck.open.set)
    assert left(Mailbox(tmp_path)) == ["requests/stuck.pki"]


def test_drafts_of_the_dead_are_tidied_away(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    box.create()
    old, new = box.answers / ".a.pki.1.1", box.answers / ".b.pki.1.1"
    for each in (old, new):
        each.write_bytes(b"half")
    os.utime(old, (1, 1))
    box.tidy()
    assert left(box) == ["answers/.b.pki.1.1"]


@pytest.mark.parametrize("point", ["claimed", "answered", "published"])
def test_a_worker_that_is_killed_costs_neither_a_request_nor_a_second_certificate(tmp_path: Path, point: str) -> None:
    box, directory = Mailbox(tmp_path / "box"), tmp_path / "ca"
    with closing(CA.create(directory)) as ca:
        ca.add_secret("device", "secret")
    context = Context(f"file:{box.directory}", credential=SECRET, retry=Retry(attempts=1), message_timeout_seconds=0.01)
    journal = Journal(tmp_path / "journal", password=b"open sesame")
    with pytest.raises(TimedOut, match=r"waits in .*requests"):
        Session(context, journal=journal).enroll("CN=device", generate="ec:P-256", label="device")
    (request,) = [path.read_bytes() for path, _ in box.waiting(9)]
    killed = subprocess.run(
        [sys.executable, "-m", "tests.server.killed_mailbox", str(directory), str(box.directory), point],
        env=environment(),
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    before = (box.answers / name_of(request)).read_bytes() if point == "published" else None
    with (
        closing(open_responder(directory)) as responder,
        watching(box.directory, lambda _: App(responder, threads=0), workers=2),
    ):
        until(lambda: left(box) == [f"answers/{name_of(request)}"])
        assert before in {None, (box.answers / name_of(request)).read_bytes()}
        # The client comes again, finds the answer, and confirms.
        context = Context(f"file:{box.directory}", credential=SECRET, message_timeout_seconds=20)
        Session(context, journal=journal).enroll("CN=device", generate="ec:P-256", label="device")
        until(lambda: not left(box))
        assert len(list(responder.store.every_certificate())) == 1
    journal.close()


def test_a_mailbox_that_cannot_be_read_is_logged_and_looked_at_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Mailbox(tmp_path)
    with watching(tmp_path):
        box.requests.rmdir()
        box.requests.write_bytes(b"")
        box.requests.unlink()
        box.requests.mkdir()
        assert FileTransport(f"file:{tmp_path}").send(REQUEST, 20) == b"echo " + REQUEST


@TWINS
def test_a_rejected_request_is_told_to_its_client(twin: Callable[..., Session], tmp_path: Path) -> None:
    site, box = Site(), Mailbox(tmp_path)

    def tiny(_: Gate) -> App:
        return App(site.responder, threads=0, max_request_bytes=100)

    session = twin(Context(f"file:{tmp_path}", credential=SECRET, retry=Retry(attempts=1), message_timeout_seconds=20))
    with watching(tmp_path, tiny), pytest.raises(TransportError, match="was rejected: it has more than 100 bytes"):
        session.enroll("CN=device", generate="ec:P-256")
    assert len(left(box)) == 2
