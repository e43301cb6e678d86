"""The audit trail: what a line says, that nobody can forge one, and what happens when none can be written."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.server import Peer
from opensslcmp.server.audit import (
    AuditLog,
    AuditSettings,
    FileSink,
    LoggerSink,
    StderrSink,
    audit_line,
    operator_line,
)
from opensslcmp.server.events import Decision, Event
from tests.server.device import KEYS, crmf, revocation, said
from tests.server.world import World

B, D, F = BodyType, Decision, FailureInfo


class Broken:
    """A sink that keeps lines while it is allowed to."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.works = threading.Event()
        self.works.set()
        self.tried = threading.Semaphore(0)

    def write(self, lines: Sequence[bytes]) -> None:
        self.tried.release()
        if not self.works.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        self.lines += lines

    def close(self) -> None:
        pass

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def sink() -> Broken:
    return Broken()


@pytest.fixture
def open_log(sink: Broken) -> Iterator[Callable[..., AuditLog]]:
    """Opens logs on ``sink``, and closes them."""
    logs: list[AuditLog] = []

    def made(**options: Any) -> AuditLog:
        logs.append(AuditLog(sink, **({"gather_seconds": 0.0, "retry_seconds": 0.001} | options)))
        return logs[-1]

    yield made
    for each in logs:
        each.close()


def event(**values: Any) -> Event:
    fields: dict[str, Any] = {"time": 0.5, "peer": Peer(), "decision": D.ACCEPTED}
    return Event(**fields | values)


def test_a_line_tells_who_asked_for_what_and_what_came_of_it(
    make: Callable[..., World], sink: Broken, open_log: Callable[..., AuditLog]
) -> None:
    log = open_log()
    world = make(observe=log, is_open=log.is_open)
    device = world.device()
    handle = world.responder.handle
    device.handle = lambda der: handle(
        der, Peer(address="192.0.2.1", label="plant", tls_certificate=world.ca.certificate)
    )
    certificate = device.enroll(KEYS[0])
    holder = device.signing(certificate, KEYS[0])
    holder.send(B.RR, [revocation(certificate, RevocationReason.SUPERSEDED)])
    assert log.flush()
    asked, confirmed, revoked = sink.told()
    serial = f"{facts(certificate).serial_number:x}"
    assert asked.pop("seconds") > 0
    assert asked.pop("time").endswith("Z")
    assert asked.pop("tls_serial")
    assert asked == {
        "pid": os.getpid(),
        "number": 1,
        "address": "192.0.2.1",
        "label": "plant",
        "tls_subject": "CN=Test CA",
        "credential": "mac",
        "reference": "device",
        "body": "ir",
        "answer": "ip",
        "transaction": device.transaction_id.hex(),
        "decision": "accepted",
        "issued": [serial],
    }
    assert (confirmed["body"], confirmed["confirmed"]) == ("cert_conf", [serial])
    assert (revoked["credential"], revoked["subject"], revoked["serial"]) == ("signature", "CN=device", serial)
    assert (revoked["decision"], revoked["revoked"]) == ("accepted", [serial])
    assert "secret" not in b"".join(sink.lines).decode()


def test_a_refusal_tells_what_the_requester_was_told_and_whom_it_claimed_to_be(
    make: Callable[..., World], sink: Broken, open_log: Callable[..., AuditLog]
) -> None:
    log = open_log()
    world = make(observe=log)
    world.device(secret="wrong").ask(B.IR, crmf(KEYS[0]))
    log.flush()
    (told,) = sink.told()
    assert (told["decision"], told["credential"], told["claimed"]) == ("error", "none", "device")
    assert told["failures"] == ["badMessageCheck"]
    assert told["reasons"] == ["the protection of the message does not verify"]


@pytest.mark.parametrize(
    "hostile",
    ['a\n{"decision":"accepted"}', "a\r\nb", "\x1b[2J", "a\x7fb", "\u2028x\u2029", "\x85", '","decision":"accepted'],
)
def test_no_text_of_a_peer_ends_a_line_or_reaches_a_terminal(hostile: str) -> None:
    line = audit_line(event(peer=Peer(label=hostile, address=hostile), claimed=hostile.encode()), 1)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    told = json.loads(line)
    assert (told["label"], told["claimed"], told["decision"]) == (hostile, hostile, "accepted")


def test_texts_of_peers_are_cut_and_bytes_that_are_no_text_are_shown() -> None:
    told = json.loads(audit_line(event(claimed=b"\xff" + b"x" * 500, transaction_id=b"t" * 500), 1))
    assert told["claimed"].startswith("\\xffx")
    assert len(told["claimed"]) == 203
    assert len(told["transaction"]) == 128


def test_a_certificate_that_nobody_can_read_costs_its_own_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: bytes) -> None:
        raise TypeError("oid must be X500_UNIQUE_IDENTIFIER for BitString type.")

    monkeypatch.setattr("opensslcmp.server.audit.x509.load_der_x509_certificate", unreadable)
    told = json.loads(audit_line(event(peer=Peer(tls_certificate=b"no certificate")), 1))
    assert (told["tls_subject"], told["tls_serial"]) == ("?", "?")


def test_an_event_that_makes_no_line_does_not_end_the_log(sink: Broken, open_log: Callable[..., AuditLog]) -> None:
    log = open_log()
    log(event(peer=Peer(label=b"no text")))  # type: ignore[arg-type]
    log(event(time=float("nan")))
    log(event())
    log.flush()
    assert [told["decision"] for told in sink.told()][1:] == ["unknown", "accepted"]
    assert log.is_open()


def test_an_expired_transaction_is_told_of_with_who_began_it() -> None:
    by_secret = json.loads(audit_line(event(decision=D.EXPIRED, identity=b"mac:device"), 1))
    assert (by_secret["credential"], by_secret["reference"]) == ("mac", "device")
    by_certificate = json.loads(audit_line(event(decision=D.EXPIRED, identity=b"cert:\x01\x02"), 1))
    assert (by_certificate["credential"], by_certificate["sha256"]) == ("signature", "0102")


def test_what_an_operator_did_is_a_line_too() -> None:
    told = json.loads(operator_line("revoke", "root\n", serial="5a", reason="keyCompromise", note=None, names=["a"]))
    assert (told["operator"], told["action"], told["serial"], told["names"]) == ("root\n", "revoke", "5a", ["a"])
    assert "note" not in told


def test_lines_keep_the_order_of_the_answers(sink: Broken, open_log: Callable[..., AuditLog]) -> None:
    log = open_log()
    for number in range(1500):
        log(event(seconds=float(number)))
    assert log.flush()
    assert [told["seconds"] for told in sink.told()] == [float(number) for number in range(1500)]
    assert [told["number"] for told in sink.told()] == list(range(1, 1501))


def test_nothing_is_lost_when_the_log_is_closed(tmp_path: Path) -> None:
    log = AuditLog(FileSink(tmp_path / "audit.log"), gather_seconds=3600.0)
    for _ in range(100):
        log(event())
    log.close()
    assert (tmp_path / "audit.log").read_bytes().count(b"\n") == 100


# -- when lines cannot be written ----------------------------------------------------------------------------------


def test_a_server_whose_audit_cannot_be_written_refuses_service_until_it_can(
    make: Callable[..., World], sink: Broken, open_log: Callable[..., AuditLog], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "opensslcmp.server")
    log = open_log()
    world = make(observe=log, is_open=log.is_open)
    device = world.device()
    device.enroll(KEYS[0])
    assert log.flush()
    sink.works.clear()
    device.begin()
    assert said(device.ask(B.IR, crmf(KEYS[1])))[0] is B.IP  # under way when the disk became full
    for _ in range(2):
        sink.tried.acquire(timeout=10)
    while log.is_open():
        pass
    issued = world.store.certificates()
    assert said(device.ask(B.IR, crmf(KEYS[2]))) == (B.ERROR, F.SYSTEM_UNAVAIL)
    assert world.store.certificates() == issued
    sink.works.set()
    assert log.flush()
    assert log.is_open()
    assert [told["decision"] for told in sink.told()] == ["accepted", "accepted", "accepted", "error"]
    device.enroll(KEYS[2])
    assert caplog.text.count("the audit log cannot be written: [Errno 28]") == 1
    assert "the audit log is written again" in caplog.text


def test_what_changed_something_keeps_its_line_beyond_the_queue_and_what_did_not_is_counted(
    sink: Broken, open_log: Callable[..., AuditLog]
) -> None:
    log = open_log(places=3)
    sink.works.clear()
    for number in range(10):
        log(event(seconds=float(number)))
        log(event(issued=(number,)))
    assert not log.is_open()
    assert log.dropped == 20 - log.backlog
    dropped = log.dropped
    sink.works.set()
    assert log.flush()
    told = sink.told()
    assert [each["issued"] for each in told if "issued" in each] == [[f"{number:x}"] for number in range(10)]
    assert sum(each.get("dropped", 0) for each in told) == dropped
    assert log.dropped == 0
    assert log.is_open()


def test_a_log_that_may_drop_lines_never_closes_the_server_and_counts_them(
    sink: Broken, open_log: Callable[..., AuditLog]
) -> None:
    log = open_log(places=3, refuse=False)
    sink.works.clear()
    for number in range(10):
        log(event(issued=(number,)))
        assert log.is_open()
    kept = log.backlog
    assert kept == 3
    sink.works.set()
    assert log.flush()
    *lines, last = sink.told()
    assert [each["issued"] for each in lines] == [["0"], ["1"], ["2"]]
    assert last["dropped"] == 7


def test_closing_a_log_that_cannot_be_written_says_how_much_is_lost(
    sink: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    sink.works.clear()
    log = AuditLog(sink, retry_seconds=3600.0)
    log(event())
    log.close()
    assert "1 lines of the audit log are lost" in caplog.text


# -- where lines go ------------------------------------------------------------------------------------------------


def test_the_file_is_for_its_owner_and_group_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for line in (b"1\n", b"2\n"):
        sink = FileSink(path, sync=True)
        sink.write([line])
        sink.close()
    assert path.read_bytes() == b"1\n2\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0


def test_a_file_that_was_rotated_is_opened_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "audit.log", tmp_path / "audit.log.1"
    sink = FileSink(path)
    sink.write([b"1\n"])
    path.rename(old)
    sink.write([b"2\n"])
    path.unlink()
    sink.write([b"3\n"])
    sink.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"1\n", b"3\n")


def test_a_batch_that_fits_in_part_only_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(tmp_path / "audit.log")
    sink.write([b"before\n"])
    real = os.write
    parts = [3]

    def write(file: int, content: Any) -> int:
        if not parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, content[: parts.pop()])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        sink.write([b"first\n", b"second\n"])
    monkeypatch.undo()
    sink.write([b"after\n"])
    sink.close()
    assert (tmp_path / "audit.log").read_bytes() == b"before\nafter\n"


def test_several_writers_of_one_file_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"

    def write(name: bytes) -> None:
        sink = FileSink(path)
        for _ in range(50):
            sink.write([name * 2000 + b"\n"] * 3)
        sink.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_bytes().splitlines()
    assert sorted(set(lines)) == [b"a" * 2000, b"b" * 2000, b"c" * 2000]
    assert len(lines) == 450


@pytest.mark.parametrize(
    "make_place", [os.mkfifo, lambda path: path.symlink_to("/dev/null"), lambda path: path.mkdir()]
)
def test_only_a_regular_file_is_taken(tmp_path: Path, make_place: Callable[[Path], None]) -> None:
    make_place(tmp_path / "audit.log")
    with pytest.raises((OSError, ValueError)):
        FileSink(tmp_path / "audit.log")


def test_a_fifo_with_a_reader_is_no_file_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.log")
    reader = os.open(tmp_path / "audit.log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ValueError, match="no regular file"):
            FileSink(tmp_path / "audit.log")
    finally:
        os.close(reader)


def test_lines_may_go_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    log = AuditLog(StderrSink(), gather_seconds=0.0)
    log(event())
    log.close()
    assert json.loads(capfd.readouterr().err)["decision"] == "accepted"


def test_lines_may_go_to_a_stderr_that_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    StderrSink().write([b"{}\n"])
    assert capsys.readouterr().err == "{}\n"


def test_lines_may_go_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "opensslcmp.audit"):
        log = AuditLog(LoggerSink(), gather_seconds=0.0)
        log(event(peer=Peer(label="100%s")))
        log.close()
    (record,) = caplog.records
    assert json.loads(record.getMessage())["label"] == "100%s"


def test_a_queue_without_places_is_refused() -> None:
    with pytest.raises(ValueError, match="queue is not positive"):
        AuditSettings(queue=0)


def test_settings_open_the_log_they_ask_for(tmp_path: Path) -> None:
    assert AuditSettings(destination="none").open(tmp_path) is None
    for settings in (
        AuditSettings(destination="stderr"),
        AuditSettings(destination="logging"),
        AuditSettings(file=tmp_path / "other.log"),
        AuditSettings(),
    ):
        log = settings.open(tmp_path)
        assert log is not None
        log.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["audit.log", "other.log"]
