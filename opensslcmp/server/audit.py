"""The audit trail: one line of JSON for each message, in the order of the answers, written off the way of the message.

``AuditLog`` is an observer of the Responder. It puts the event into a queue; a thread of its own makes lines of it and writes
them in batches, a moment later. What a peer sent is escaped by JSON, control characters and line ends with it, so no peer
can forge a line; texts of peers are cut after 200 characters. There is no secret in a line.

When lines cannot be written, because the disk is full or slower than the requests, ``when_full`` decides:

``refuse``  the Responder answers systemUnavail and does nothing (``AuditLog.is_open`` is its ``is_open``) until the lines that
            wait have been written. What was under way when it began is kept in memory and written then. Of what was
            refused meanwhile lines are kept as long as there is place, and counted afterwards.
``drop``    the server goes on. Lines for which there is no place are dropped, and counted: once there is place again, a line
            with ``"dropped": N`` stands where they would have stood.

A crash loses what was queued at that moment: messages of the last ``gather_seconds``, as a rule.

Several processes write to one file, each batch under a lock (flock(2)); a batch that could be written in part only is taken back,
so there are no cut lines. A file that was renamed or removed, as logrotate does, is noticed before the next batch and opened
anew: no signal is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import logging
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from cryptography import x509

from opensslcmp.context.protection import ProtectionKind
from opensslcmp.server.events import Event

__all__ = ["AuditLog", "AuditSettings", "FileSink", "LoggerSink", "Sink", "StderrSink", "audit_line", "operator_line"]

logger = logging.getLogger("opensslcmp.server")

_LONGEST = 200
_BATCH = 512


class Sink(Protocol):
    """Where lines go. Called by one thread at a time."""

    def write(self, lines: Sequence[bytes]) -> None:
        """Write all of these lines, or none and raise.

        Raises:
            OSError: they could not be written.
        """

    def close(self) -> None:
        """Nothing is written any more."""


class FileSink:
    """Appends to a file, which other processes may append to as well.

    Args:
        path: made with mode 0640 when it is not there; its directory must be.
        sync: have each batch on the disk (fsync) before the next one.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no regular file.
    """

    def __init__(self, path: str | os.PathLike[str], *, sync: bool = False) -> None:
        self._path = Path(path)
        self._sync = sync
        self._file = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(self._path, flags, 0o640)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise ValueError(f"{self._path} is no regular file")
        return file

    def _follow(self) -> None:
        """Open the file anew when it is not the one of this name any more."""
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            new = self._open()
            os.close(self._file)
            self._file = new

    def write(self, lines: Sequence[bytes]) -> None:
        """As ``Sink.write``."""
        self._follow()
        content = memoryview(b"".join(lines))
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            before = os.fstat(self._file).st_size
            try:
                while content:
                    content = content[os.write(self._file, content) :]
                if self._sync:
                    os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, before)
                raise
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """As ``Sink.close``."""
        os.close(self._file)


class StderrSink:
    """Writes to stderr, for a supervisor that keeps it."""

    def write(self, lines: Sequence[bytes]) -> None:
        """As ``Sink.write``."""
        try:
            file = sys.stderr.fileno()
        except (OSError, ValueError):  # not a file, as in tests and notebooks
            sys.stderr.write(b"".join(lines).decode("ascii"))
            sys.stderr.flush()
            return
        content = memoryview(b"".join(lines))
        while content:
            content = content[os.write(file, content) :]

    def close(self) -> None:
        """As ``Sink.close``."""


class LoggerSink:
    """Hands each line to ``logging``, as INFO of the logger ``opensslcmp.audit``."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("opensslcmp.audit")

    def write(self, lines: Sequence[bytes]) -> None:
        """As ``Sink.write``."""
        for line in lines:
            self._logger.info("%s", line.decode("ascii").rstrip("\n"))

    def close(self) -> None:
        """As ``Sink.close``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditSettings:
    """The table ``[audit]``.

    Attributes:
        destination: where lines go.
        file: that they are added to; none: ``audit.log`` in the CA's directory.
        sync: have lines of a file on the disk before the next ones are written.
        when_full: whether the server refuses service while lines cannot be written, or drops lines.
        queue: how many events may wait to be written.
    """

    destination: Literal["file", "stderr", "logging", "none"] = "file"
    file: Path | None = None
    sync: bool = False
    when_full: Literal["refuse", "drop"] = "refuse"
    queue: int = 10_000

    def __post_init__(self) -> None:
        if self.queue < 1:
            raise ValueError("queue is not positive")

    def sink(self, directory: Path) -> Sink | None:
        """Where lines go; None: nowhere.

        Raises:
            OSError, ValueError: as ``FileSink``.
        """
        if self.destination == "file":
            return FileSink(self.file or directory / "audit.log", sync=self.sync)
        if self.destination == "stderr":
            return StderrSink()
        return LoggerSink() if self.destination == "logging" else None

    def open(self, directory: Path) -> AuditLog | None:
        """The log that these settings ask for; None: there is none to be.

        Raises:
            OSError, ValueError: as ``FileSink``.
        """
        sink = self.sink(directory)
        return None if sink is None else AuditLog(sink, refuse=self.when_full == "refuse", places=self.queue)


class AuditLog:
    """An observer of a Responder that writes a line for each event. May be called by several threads at once.

    Args:
        sink: where lines go.
        refuse: what happens while they cannot be written: the server is closed; else lines are dropped.
        places: how many events may wait.
        gather_seconds: how long the writer waits for more before it writes.
        retry_seconds: how long it waits after a failure.

    The thread that writes is begun with the first event, in the process where that happens. Close it when done.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        refuse: bool = True,
        places: int = 10_000,
        gather_seconds: float = 0.05,
        retry_seconds: float = 1.0,
    ) -> None:
        self._sink = sink
        self._refuse = refuse
        self._places = places
        self._gather_seconds = gather_seconds
        self._retry_seconds = retry_seconds
        self._queue: queue.Queue[Event | threading.Event | None] = queue.Queue()
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._writer: threading.Thread | None = None
        self._failing = False
        self._closing = False
        self._dropped = 0
        self._number = 0

    def __call__(self, event: Event) -> None:
        """Have a line written for this event."""
        if self._writer is None:
            self._begin()
        if self.backlog >= self._places and not (self._refuse and _changed(event)):
            with self._lock:
                self._dropped += 1
            return
        self._queue.put(event)

    def is_open(self) -> bool:
        """False while the server must not do anything, since it could not be written down."""
        return not self._refuse or not (self._failing or self.backlog >= self._places)

    @property
    def backlog(self) -> int:
        """How many events wait to be written."""
        return self._queue.unfinished_tasks

    @property
    def dropped(self) -> int:
        """How many events were dropped and are not told of in the log yet."""
        return self._dropped

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until what came before is written; False when it was not in time."""
        if self._writer is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        self._hurry.set()
        return done.wait(timeout_seconds)

    def close(self) -> None:
        """Write what waits, once more only if that fails, and end the thread."""
        with self._lock:
            writer, self._closing = self._writer, True
        if writer is not None:
            self._queue.put(None)
            self._hurry.set()
            writer.join()
        self._sink.close()

    # -- the thread that writes ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._lock:
            if self._writer is None and not self._closing:
                self._writer = threading.Thread(target=self._write_all, name="cmp-audit", daemon=True)
                self._writer.start()

    def _write_all(self) -> None:
        over = False
        while not over:
            found = [self._queue.get()]
            if not isinstance(found[0], Event):
                self._hurry.set()
            self._hurry.wait(self._gather_seconds)
            self._hurry.clear()
            with contextlib.suppress(queue.Empty):
                while len(found) < _BATCH:
                    found.append(self._queue.get_nowait())
            over = None in found
            lines = [self._line(each) for each in found if isinstance(each, Event)]
            self._write(lines)
            for each in found:
                self._queue.task_done()
                if isinstance(each, threading.Event):
                    each.set()

    def _line(self, event: Event) -> bytes:
        self._number += 1
        try:
            return audit_line(event, self._number)
        except Exception:  # the lines of others are written all the same
            logger.exception("a line of the audit log could not be made")
            values = {"time": _when(time.time()), "pid": os.getpid(), "number": self._number, "decision": "unknown"}
            return _json(values)

    def _write(self, lines: list[bytes]) -> None:
        while True:
            # Told of after what had a place: that came before.
            dropped = self._dropped
            told = [_dropped_line(dropped)] if dropped else []
            try:
                if lines or told:
                    self._sink.write([*lines, *told])
            except Exception as error:
                if not self._failing:
                    logger.error("the audit log cannot be written: %s", error)
                self._failing = True
                if self._closing:
                    logger.error("%d lines of the audit log are lost", len(lines))
                    return
                self._wait_to_retry()
                continue
            with self._lock:
                self._dropped -= dropped
            if self._failing:
                logger.error("the audit log is written again")
            self._failing = False
            return

    def _wait_to_retry(self) -> None:
        self._hurry.wait(self._retry_seconds)
        self._hurry.clear()


def _changed(event: Event) -> bool:
    return bool(event.issued or event.confirmed or event.revoked or event.released or event.recovered)


def _text(value: str | bytes) -> str:
    """What a peer sent, for a line."""
    text = value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _json(values: dict[str, Any]) -> bytes:
    # ASCII only: JSON escapes what controls a terminal or ends a line, but DEL.
    line = json.dumps(values, ensure_ascii=True, separators=(",", ":"), check_circular=False)
    return line.replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@functools.lru_cache(maxsize=1024)
def _subject(certificate: bytes) -> tuple[str, str]:
    """Subject and serial number of a certificate, for people."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        return _text(found.subject.rfc4514_string()), f"{found.serial_number:x}"
    except (ValueError, TypeError):  # a BIT STRING in a Name is a TypeError of cryptography's
        return "?", "?"


def audit_line(event: Event, number: int) -> bytes:
    """The line of an event, with its line end; what is not known is left out.

    Args:
        number: of the line among those of this process.
    """
    peer, requester = event.peer, event.requester
    values: dict[str, Any] = {"time": _when(event.time), "pid": os.getpid(), "number": number}
    for name, given in (("address", peer.address), ("label", peer.label), ("operation", peer.operation)):
        if given is not None:
            values[name] = _text(given)
    if peer.tls_certificate is not None:
        values["tls_subject"], values["tls_serial"] = _subject(peer.tls_certificate)
    if requester is None and event.identity:
        kind, _, identity = event.identity.partition(b":")
        named = ("mac", "reference", _text(identity)) if kind == b"mac" else ("signature", "sha256", identity.hex())
        values["credential"], values[named[1]] = named[0], named[2]
    elif requester is None:
        values["credential"] = "none"
        if event.claimed is not None:
            values["claimed"] = _text(event.claimed)
    elif requester.kind is ProtectionKind.MAC:
        values["credential"], values["reference"] = "mac", _text(requester.reference or b"")
    else:
        values["credential"] = requester.kind.value
        values["subject"], values["serial"] = _subject(requester.certificate or b"")
    if event.ra:
        values["ra"] = True
    if event.body_type is not None:
        values["body"] = event.body_type.name.lower()
    if event.answer is not None:
        values["answer"] = event.answer.name.lower()
    if event.transaction_id is not None:
        values["transaction"] = event.transaction_id[:64].hex()
    values["decision"] = event.decision.value
    if failures := event.failures:
        values["failures"] = [failure.text for failure in failures]
    if reasons := event.reasons:
        values["reasons"] = [_text(reason) for reason in reasons[:20]]
    for name in ("issued", "confirmed", "revoked", "released", "recovered"):
        if serials := getattr(event, name):
            values[name] = [f"{serial:x}" for serial in serials]
    values["seconds"] = round(event.seconds, 6)
    return _json(values)


def operator_line(action: str, user: str, **details: str | list[str] | None) -> bytes:
    """The line of what an operator did; ``details`` that are None are left out."""
    values: dict[str, Any] = {"time": _when(time.time()), "pid": os.getpid(), "operator": _text(user), "action": action}
    for name, value in details.items():
        if value is not None:
            values[name] = _text(value) if isinstance(value, str) else [_text(each) for each in value]
    return _json(values)


def _dropped_line(count: int) -> bytes:
    return _json({"time": _when(time.time()), "pid": os.getpid(), "dropped": count})
