"""Files of a CA's directory: there whole or not at all, and on the disk when a function returns."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from pathlib import Path

__all__ = ["check_private", "replace_file", "sync_directory", "write_new"]


def check_private(path: Path, status: os.stat_result) -> None:
    """Return when a file is the owner's alone, who is us or root.

    Raises:
        PermissionError: it is not; the text says what to do.
    """
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(f"{path} is not a regular file")
    if status.st_uid not in {os.geteuid(), 0}:
        raise PermissionError(f"{path} belongs to user {status.st_uid}, not to you or root")
    if mode := stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(
            f"{path} can be used by others than its owner (mode {stat.S_IMODE(status.st_mode):04o}, of which {mode:04o} "
            f"is too much); make it yours alone: chmod 600 {path}"
        )


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet.

    Raises:
        FileExistsError: it is.
        OSError: it could not be written; then it is not there.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # Half a key would keep the whole one from being written later.
        path.unlink(missing_ok=True)
        raise


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file that is there whole, old or new, at any time."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    write_new(new, content, mode)
    new.replace(path)


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
