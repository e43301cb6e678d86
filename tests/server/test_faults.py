"""What fails around a server: disk, database, network, clock, an end in the middle. docs/faults.md says what each end sees.

Each test ends with the same question: has every client one certificate, the one that the server has for it?
"""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import AsyncSession, CMPError, Context, Retry, Session, SharedSecret, TransportError
from opensslcmp.asn1 import Message, admit
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.server import CA, Responder, open_responder
from opensslcmp.server.app import App
from opensslcmp.server.http_service import answer_to
from opensslcmp.server.sqlstore import SQLStore
from opensslcmp.server.store import CertificateState, Store
from opensslcmp.transport import HTTPTransport
from tests.server.device import KEYS, Device, certificate_of, crmf, mac_device, said
from tests.server.front_world import Serving, serving
from tests.server.several import copies
from tests.server.web_client import environment
from tests.server.world import Clock

B, F = BodyType, FailureInfo
PATIENT = Retry(attempts=60, first_seconds=0.05, max_seconds=0.3)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of a CA with a secret."""
    with closing(CA.create(tmp_path / "ca", "CN=Test CA")) as ca:
        ca.add_secret("device", "secret")
    return tmp_path / "ca"


@pytest.fixture
def responder(directory: Path) -> Iterator[Responder]:
    with closing(open_responder(directory)) as found:
        yield found


def valid(store: Store) -> list[bytes]:
    """The certificates that are in force; nobody else's was left behind unconfirmed."""
    records = list(store.every_certificate())
    assert CertificateState.UNCONFIRMED not in {each.state for each in records}
    return sorted(each.certificate for each in records if each.state is CertificateState.VALID)


# -- the disk ------------------------------------------------------------------------------------------------------


def fill(store: SQLStore) -> None:
    connection = store._connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")


def protect(store: SQLStore) -> None:
    store._connection().execute("PRAGMA query_only=1")


def undo(store: SQLStore) -> None:
    store._connection().execute("PRAGMA max_page_count=1000000")
    store._connection().execute("PRAGMA query_only=0")


@pytest.mark.parametrize(("breaks", "words"), [(fill, "full"), (protect, "readonly")])
def test_what_cannot_be_written_is_answered_with_system_unavail_and_done_when_it_comes_again(
    responder: Responder, breaks: Callable[[SQLStore], None], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = responder.store
    assert isinstance(store, SQLStore)
    devices: list[tuple[Device, bytes]] = []
    breaks(store)
    while True:  # a page that is there already may have room for some
        device = mac_device(responder.handle, time.time)
        answer = device.ask(B.IR, crmf(KEYS[0], f"CN=device {len(devices)}"))
        if answer.body_type is B.ERROR:
            break
        devices.append((device, certificate_of(answer)))
    assert said(answer) == (B.ERROR, F.SYSTEM_UNAVAIL)
    assert answer.protection is not None  # who asks was known
    assert words in caplog.text
    assert "Traceback" not in caplog.text
    undo(store)
    devices.append((device, certificate_of(once_more(device))))
    if breaks is protect:
        breaks(store)
        assert said(device.confirm(devices[-1][1])) == (B.ERROR, F.SYSTEM_UNAVAIL)
        undo(store)
        assert once_more(device).body_type is B.PKICONF
        assert len(devices) == 1
    else:  # to change a state takes no more room
        for each, certificate in devices:
            assert each.confirm(certificate).body_type is B.PKICONF
    assert valid(store) == sorted(certificate for _, certificate in devices)


def once_more(device: Device) -> Message:
    """The answer to the same bytes, sent again."""
    answer = admit(device.handle(device.last_request))
    device.recip_nonce = answer.sender_nonce
    return answer


def test_without_its_store_a_server_cannot_know_anybody_and_says_503(responder: Responder) -> None:
    store = responder.store
    assert isinstance(store, SQLStore)
    device = mac_device(responder.handle, time.time)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0], "CN=device")))
    connection = store._connection()
    connection.execute("ALTER TABLE transactions RENAME TO gone")
    reply = answer_to(responder.handle(device.last_request))
    connection.execute("ALTER TABLE gone RENAME TO transactions")
    assert (reply.status, dict(reply.headers)[b"retry-after"]) == (503, b"5")
    assert said(admit(reply.body)) == (B.ERROR, F.SYSTEM_UNAVAIL)
    assert certificate_of(once_more(device)) == certificate


# -- a server process ----------------------------------------------------------------------------------------------


class Process:
    """``opensslcmp serve`` on a port that stays the same, and clients that enroll from it meanwhile."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory.parent / "server.log"
        self.port = 0
        self.issued: list[bytes] = []
        self.failed: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._enough = threading.Event()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "opensslcmp", "serve", str(self.directory), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment())
        assert self._process.stdout is not None
        found = re.search(r":(\d+)/", self._process.stdout.readline())
        assert found
        self.port = int(found[1])

    @property
    def worker(self) -> int:
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status

    def context(self, retry: Retry | None = PATIENT) -> Context:
        url = f"http://127.0.0.1:{self.port}/.well-known/cmp"
        return Context(url, credential=SharedSecret("device", "secret"), retry=retry)

    def enroll_meanwhile(self, clients: int = 4) -> None:
        """Begin to enroll; returns once some certificates have come."""

        def client(number: int) -> None:
            try:
                session = Session(self.context())
                while not self._enough.is_set():
                    result = session.enroll(f"CN=device {number}", generate="ec:P-256")
                    self.issued.append(result.certificate.public_bytes(Encoding.DER))
            except BaseException as error:
                self.failed.append(error)

        self._threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()
        self.wait_for_more(clients)

    def wait_for_more(self, number: int) -> None:
        before, until = len(self.issued), time.monotonic() + 40
        while len(self.issued) < before + number and not self.failed and time.monotonic() < until:
            time.sleep(0.02)
        assert self.failed == []
        assert len(self.issued) >= before + number

    def check(self) -> None:
        """The clients end, the server ends, and both have the same."""
        self._enough.set()
        for thread in self._threads:
            thread.join()
        assert self.failed == []
        assert self.end() == 0
        with closing(CA.open(self.directory)) as ca:
            assert valid(ca.store) == sorted(self.issued)


@pytest.fixture
def process(directory: Path) -> Iterator[Process]:
    found = Process(directory)
    yield found
    if found._process.poll() is None:
        found._process.kill()
        found._process.wait()


def test_a_full_disk_under_load_costs_time_and_no_certificate(process: Process) -> None:
    process.enroll_meanwhile()
    # No file may grow from here on: database, its log, the audit log.
    _, most = resource.prlimit(process.worker, resource.RLIMIT_FSIZE)
    resource.prlimit(process.worker, resource.RLIMIT_FSIZE, (4096, most))
    with pytest.raises(CMPError, match="systemUnavail"):
        Session(process.context(retry=None)).enroll("CN=other", generate="ec:P-256")
    before = len(process.issued)
    time.sleep(0.3)
    assert len(process.issued) <= before + 4  # those that were under way
    resource.prlimit(process.worker, resource.RLIMIT_FSIZE, (most, most))
    process.wait_for_more(8)
    process.check()
    log = process.log.read_text()
    assert "Traceback" not in log
    assert re.search("store cannot be used|audit log cannot be written", log)


def test_sigterm_under_load_ends_what_was_begun_and_the_next_server_goes_on(process: Process) -> None:
    process.enroll_meanwhile()
    for _ in range(2):
        assert process.end() == 0
        process.start()
        process.wait_for_more(4)
    process.check()


def test_postgresql_started_anew_under_load_costs_time_and_no_certificate(tmp_path: Path, postgres: object) -> None:
    from tests.postgres import Server

    database = Server(durable=True)
    try:
        (directory,) = copies(tmp_path, 1, database.database())
        with closing(CA.open(directory)) as ca:
            ca.add_secret("device", "secret")
        process = Process(directory)
        process.enroll_meanwhile()
        database.stop(signal.SIGQUIT)  # as a crash: connections break in the middle of a commit
        database.start()
        process.wait_for_more(8)
        process.check()
    finally:
        database.remove()


# -- the network ---------------------------------------------------------------------------------------------------


@dataclass
class Cutter:
    """Between client and server: hands messages on, and cuts the connection in the middle of one of them, once.

    Attributes:
        message: which of all requests or answers, counted from 0: ir, ip, certConf, pkiConf.
        part: of it that arrives, before both ends lose the connection.
    """

    port: int
    message: int
    part: float
    seen: int = 0
    cut: bool = False
    threads: list[threading.Thread] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Cutter:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/.well-known/cmp"
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.listening, *self.sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for thread in self.threads:
            thread.join()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                self._run(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            self.sockets += client, server
            while self._one(client, server) and self._one(server, client):
                pass

    def _one(self, source: socket.socket, target: socket.socket) -> bool:
        data = b""
        with contextlib.suppress(OSError):
            while not (found := re.search(rb"(?i)content-length: *(\d+)\r\n(?:.+\r\n)*\r\n", data)) or len(
                data
            ) < found.end() + int(found[1]):
                if not (more := source.recv(65536)):
                    return False
                data += more
            number, self.seen = self.seen, self.seen + 1
            if number == self.message and not self.cut:
                self.cut = True
                target.sendall(data[: int(len(data) * self.part)])
                return False
            target.sendall(data)
            return True
        return False


def settle(server: Serving) -> None:
    """Let a front end see that its peers have gone, before it is closed itself."""
    for _ in range(8):
        server.call(lambda: None)


CUTS = [(message, part) for message in range(4) for part in (0.0, 0.2, 0.6, 0.999)]
NAMES = ("ir", "ip", "certConf", "pkiConf")


def cut_ids() -> list[str]:
    return [f"{NAMES[message]} {part:.1%}" for message, part in CUTS]


@pytest.mark.parametrize(("message", "part"), CUTS, ids=cut_ids())
def test_a_connection_cut_in_the_middle_of_any_message_costs_no_certificate(
    responder: Responder, message: int, part: float
) -> None:
    with serving(app=lambda _: App(responder, threads=0)) as server:
        with Cutter(server.address[1], message, part) as cutter:
            retry = Retry(attempts=3, first_seconds=0.01)
            context = Context(cutter.url, credential=SharedSecret("device", "secret"), retry=retry)
            with closing(HTTPTransport(cutter.url)) as transport:
                result = Session(context, transport=transport).enroll("CN=device", generate="ec:P-256")
            assert cutter.cut
        settle(server)
        assert valid(responder.store) == [result.certificate.public_bytes(Encoding.DER)]
        assert responder.store.open_transactions(b"")[0] == 0


@pytest.mark.parametrize(("message", "part"), CUTS, ids=cut_ids())
def test_a_client_that_does_not_ask_again_is_told_and_nothing_stays_in_force(
    directory: Path, message: int, part: float
) -> None:
    clock = Clock()
    with closing(open_responder(directory, clock=clock)) as responder:
        with serving(app=lambda _: App(responder, threads=0)) as server:
            with Cutter(server.address[1], message, part) as cutter:
                context = Context(cutter.url, credential=SharedSecret("device", "secret"), retry=Retry(attempts=1))
                # A connection that was kept may have been closed by the server meanwhile: one message more is sent then.
                with (
                    closing(HTTPTransport(cutter.url, keep_alive=False)) as transport,
                    pytest.raises(TransportError),
                ):
                    Session(context, transport=transport).enroll("CN=device", generate="ec:P-256")
            settle(server)
        clock.now += 86400.0
        responder.sweep()
        records = list(responder.store.every_certificate())
        if message == 0:
            assert records == []
        elif message < 3:  # it came out of no confirmation, so it is revoked
            assert [each.state for each in records] == [CertificateState.REVOKED]
        else:  # the server has confirmed, and the client does not know; a journal would ask
            assert [each.state for each in records] == [CertificateState.VALID]


def test_a_cut_is_the_same_to_the_asynchronous_client(responder: Responder) -> None:
    import anyio

    async def enroll(url: str) -> bytes:
        retry = Retry(attempts=3, first_seconds=0.01)
        context = Context(url, credential=SharedSecret("device", "secret"), retry=retry)
        async with AsyncSession(context) as session:
            result = await session.enroll("CN=device", generate="ec:P-256")
            return result.certificate.public_bytes(Encoding.DER)

    got = []
    with serving(app=lambda _: App(responder, threads=0)) as server:
        for message in range(4):
            with Cutter(server.address[1], message, 0.6) as cutter:
                got.append(anyio.run(enroll, cutter.url))
                assert cutter.cut
            settle(server)
    assert valid(responder.store) == sorted(got)


# -- the clock -----------------------------------------------------------------------------------------------------


def test_a_clock_that_steps_forward_ends_what_is_open_and_one_that_steps_back_ends_nothing(directory: Path) -> None:
    clock = Clock()
    with closing(open_responder(directory, clock=clock)) as responder:
        devices = [mac_device(responder.handle, clock) for _ in range(3)]
        certificates = [
            certificate_of(each.ask(B.IR, crmf(KEYS[0], f"CN=device {number}"))) for number, each in enumerate(devices)
        ]
        clock.now -= 3600
        responder.sweep()
        assert devices[0].confirm(certificates[0]).body_type is B.PKICONF
        clock.now += 7200
        assert said(devices[1].confirm(certificates[1]))[0] is B.ERROR
        responder.sweep()
        clock.now -= 3600
        assert said(devices[2].confirm(certificates[2]))[0] is B.ERROR
        assert valid(responder.store) == [certificates[0]]
        assert [each.reason for each in responder.store.revocations(clock.now)[1]] == [RevocationReason.UNSPECIFIED] * 2
        device = mac_device(responder.handle, clock)
        later = certificate_of(device.ask(B.IR, crmf(KEYS[0], "CN=later")))
        assert device.confirm(later).body_type is B.PKICONF
        assert valid(responder.store) == sorted([certificates[0], later])
