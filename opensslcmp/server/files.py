"""Files of a CA's directory: there whole or not at all, and on the disk when a function returns."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

__all__ = ["replace_file", "sync_directory", "write_new"]


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
