"""A directory as a mailbox for PKIMessages: one file holds one message, in DER, and nothing else (RFC 2510, 5.1).

::

    DIR/requests/NAME.pki            what clients ask
    DIR/requests/p/LABEL/NAME.pki    the same, at a label
    DIR/answers/NAME.pki             the answer, under the name of its request
    DIR/rejected/NAME.pki            what was no request, and NAME.reason why

A file gets its name once it is whole and on the disk, so nobody reads half of one. A client's NAME is the beginning of the
SHA-256 of its request: asked again, the same request is the same file, and an answer that came late is found.

A file is one client's and one worker's at a time: whoever works on a request holds a lock on it (flock(2)), which ends with
its process, however that ends. The answer is on the disk before the request is removed. A worker that dies in between leaves
the request to another one, which gets the same answer from the store and puts it in the same place, unless the client, who
removes the request before the answer, has been there.

Source: RFC 2510, 5.1; RFC 9810, 7 (file-based transfer).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["SUFFIX", "Mailbox", "Unusable", "claim", "name_of", "put", "read_regular"]

SUFFIX = ".pki"
"""Of files with PKIMessages, as RFC 2510 registered it."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\.pki")
_LABEL = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}")


class Unusable(Exception):
    """A file that is no message; the text says why."""


def name_of(request: bytes) -> str:
    """The name of the file that a client puts a request into."""
    return hashlib.sha256(request).hexdigest()[:40] + SUFFIX


class Mailbox:
    """The files of a directory. May be used by several threads and processes at once.

    Args:
        directory: as above.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.requests = self.directory / "requests"
        self.answers = self.directory / "answers"
        self.rejected = self.directory / "rejected"

    def create(self) -> None:
        """Make the directories that are not there.

        Raises:
            OSError: that cannot be done.
        """
        for each in (self.directory, self.requests, self.answers, self.rejected):
            each.mkdir(exist_ok=True)

    # -- the client ----------------------------------------------------------------------------------------------

    def ask(self, request: bytes, label: str | None = None) -> str:
        """Put a request there, unless it or its answer is there already; its name.

        Raises:
            OSError: that cannot be done.
        """
        name = name_of(request)
        place = self.requests / "p" / label if label else self.requests
        if not (self.answers / name).exists() and not (place / name).exists():
            place.mkdir(parents=True, exist_ok=True)
            put(place / name, request)
        return name

    def answer(self, name: str, limit: int) -> bytes | None:
        """The answer to a request; None when there is none yet.

        Raises:
            Unusable: the request was rejected, or the answer is too long.
            OSError: it cannot be read.
        """
        try:
            with _opened(self.answers / name) as file:
                return _read(file, limit)
        except FileNotFoundError:
            pass
        with contextlib.suppress(FileNotFoundError):
            reason = (self.rejected / name).with_suffix(".reason").read_text(encoding="utf-8", errors="replace")
            raise Unusable(f"the request was rejected: {' '.join(reason.split())[:400]}")
        return None

    def done(self, name: str, label: str | None = None) -> None:
        """Remove a request that was answered, and then its answer."""
        place = self.requests / "p" / label if label else self.requests
        for each in (place / name, self.answers / name):
            with contextlib.suppress(FileNotFoundError):
                each.unlink()

    # -- the server ----------------------------------------------------------------------------------------------

    def waiting(self, most: int) -> list[tuple[Path, str | None]]:
        """Requests that are there, the oldest first, ``most`` of them; with their labels.

        Raises:
            OSError: the directory cannot be read.
        """
        found: list[tuple[int, Path, str | None]] = []
        places: list[tuple[Path, str | None]] = [(self.requests, None)]
        with contextlib.suppress(FileNotFoundError):
            places += [
                (each, each.name) for each in sorted((self.requests / "p").iterdir()) if _LABEL.fullmatch(each.name)
            ]
        for place, label in places:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or (label is None and entry.name == "p"):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, place / entry.name, label))
        return [(path, label) for _, path, label in sorted(found)[:most]]

    @contextmanager
    def claimed(self, path: Path, limit: int) -> Iterator[bytes | None]:
        """A request, and the right to answer it while the block lasts; None when somebody else has it.

        Raises:
            Unusable: it is no file with a message.
            OSError: it cannot be read.
        """
        if not _NAME.fullmatch(path.name):
            raise Unusable(f"its name is not made of A-Z, a-z, 0-9, _, - and ., with {SUFFIX} at its end")
        with claim(path, limit) as content:
            yield content

    @staticmethod
    def describe(path: Path, label: str | None) -> tuple[str, str | None, float]:
        """Whose a request is, for logs, its label, and how old it is in seconds.

        Raises:
            OSError: it is gone.
        """
        found = path.stat(follow_symlinks=False)
        return f"file:uid={found.st_uid}", label, time.time() - found.st_mtime

    def publish(self, path: Path, answer: bytes) -> None:
        """Within ``claimed``: put the answer there, and remove the request. No bytes: there is no answer.

        Raises:
            OSError: that cannot be done; the request stays.
        """
        if answer and path.exists():
            put(self.answers / path.name, answer)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()

    def reject(self, path: Path, reason: str) -> None:
        """Move aside what is no request, and say why.

        Raises:
            OSError: that cannot be done.
        """
        name = path.name if _NAME.fullmatch(path.name) else f"{re.sub(r'[^A-Za-z0-9_-]', '_', path.name)[:100]}.bad"
        target, number = self.rejected / name, 0
        while os.path.lexists(target):
            number += 1
            target = self.rejected / f"{Path(name).stem}.{number}{Path(name).suffix}"
        try:
            path.rename(target)
        except FileNotFoundError:
            return  # another worker was quicker
        put(target.with_suffix(".reason"), f"{reason}\n".encode())

    def tidy(self, older_than_seconds: float = 3600.0) -> None:
        """Remove drafts of processes that died before they gave them their names.

        Raises:
            OSError: a directory cannot be read.
        """
        before = time.time() - older_than_seconds
        for place in (self.requests, self.answers, self.rejected):
            for draft in place.glob(".*.pki.*"):
                with contextlib.suppress(FileNotFoundError):
                    if draft.stat(follow_symlinks=False).st_mtime < before:
                        draft.unlink()


@contextmanager
def claim(path: Path, limit: int) -> Iterator[bytes | None]:
    """What a file has, locked while the block lasts; None when somebody else has it, or it is gone.

    Raises:
        Unusable: it is no regular file, or longer than the limit.
        OSError: it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_opened(path))
        except FileNotFoundError:
            yield None
            return
        yield _read(file, limit) if _lock(file) and _is_still(file, path) else None


def read_regular(path: Path, limit: int) -> bytes:
    """What a file has.

    Raises:
        Unusable: it is no regular file, or longer than the limit.
        OSError: it cannot be read.
    """
    with _opened(path) as file:
        return _read(file, limit)


def put(path: Path, content: bytes) -> None:
    """Write a file that is whole and durable once it has its name."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A regular file; neither a link is followed nor a pipe waited for."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise Unusable("it is no regular file") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise Unusable("it is no regular file")
        yield file
    finally:
        os.close(file)


def _read(file: int, limit: int) -> bytes:
    if os.fstat(file).st_size > limit:
        raise Unusable(f"it has more than {limit} bytes")
    parts = []
    left = limit + 1
    while left and (part := os.read(file, left)):
        parts.append(part)
        left -= len(part)
    if not left:
        raise Unusable(f"it has more than {limit} bytes")
    return b"".join(parts)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(file: int, path: Path) -> bool:
    """The file that we hold is the one that has this name."""
    ours = os.fstat(file)
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
