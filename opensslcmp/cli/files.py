"""Files and secrets that the command line names: what is read, and what is written whole or not at all."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.cli.exits import InputError
from opensslcmp.cli.talk import say

__all__ = ["Outputs", "pem", "read_secret", "sources", "sync_directory", "write_durably"]


def read_secret(source: str, option: str) -> bytes:
    """The secret that an option names.

    Args:
        source: ``env:NAME``, ``file:PATH`` (its first line), ``fd:NUMBER`` or ``stdin`` (one line); ``pass:TEXT`` and
            anything else are the secret itself, which everybody on the machine can read in the list of processes.
        option: for messages.

    Raises:
        InputError: there is none.
    """
    kind, _, name = source.partition(":")
    try:
        if kind == "env" and name:
            secret = os.environb[os.fsencode(name)]
        elif kind == "file" and name:
            secret = _first_line(Path(name).read_bytes())
        elif kind == "fd" and name.isdigit():
            with open(int(name), "rb", closefd=False) as file:
                secret = _first_line(file.readline())
        elif source == "stdin":
            secret = _first_line(sys.stdin.buffer.readline())
        else:
            say(
                f"warning: {option} stands on the command line, where every user of this machine can read it; "
                "use env:NAME, file:PATH, fd:NUMBER or stdin"
            )
            secret = os.fsencode(name if kind == "pass" else source)
    except KeyError:
        raise InputError(f"{option}: the environment has no {name}") from None
    except OSError as error:
        raise InputError(f"{option}: {error.strerror}: {name}") from None
    if not secret:
        raise InputError(f"{option}: the secret is empty")
    return secret


def _first_line(content: bytes) -> bytes:
    return content.partition(b"\n")[0].removesuffix(b"\r")


def sources(values: Iterable[str]) -> list[str]:
    """Files of an option that takes several, with commas or repeated, as ``openssl`` does."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Certificates in PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def write_durably(place: Path, content: bytes, *, secret: bool = False) -> None:
    """Put ``content`` into ``place``, whole or not at all; on return it stays, whatever becomes of the machine.

    Args:
        secret: of mode 0600; else as the umask has it.
    """
    beside = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
    try:
        mode = 0o600 if secret else 0o666
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_directory(place.parent)


def sync_directory(directory: Path) -> None:
    """On return, the names in it stay whatever becomes of the machine (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Outputs:
    """Files that appear together at the end, or not at all.

    ``reserve`` finds out early that a place cannot be written to. ``write`` puts the content beside its place;
    ``with`` moves all into place when its block ends well, and removes them otherwise. A key written before the request
    leaves is therefore on the disk before the certificate exists.
    """

    def __init__(self) -> None:
        self._pending: dict[Path, Path] = {}

    def reserve(self, *places: Path | None) -> None:
        """Fail now when one of these files could not be written later.

        Raises:
            InputError: it could not.
        """
        for place in places:
            if place is None:
                continue
            if place.is_dir():
                raise InputError(f"cannot write {place}: it is a directory")
            if not os.access(place.parent, os.W_OK | os.X_OK):
                reason = "may not be written to" if place.parent.is_dir() else "does not exist"
                raise InputError(f"cannot write {place}: the directory {place.parent} {reason}")

    def write(self, place: Path, content: bytes, *, secret: bool = False) -> None:
        """Put ``content`` beside ``place``; of mode 0600 when it is secret, else as the umask has it."""
        beside = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
        mode = 0o600 if secret else 0o666
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            replaced = self._pending.get(place)
            self._pending[place] = beside
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replaced is not None:
            replaced.unlink()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place, beside in self._pending.items():
            if kind is None:
                beside.replace(place)
            else:
                with suppress(OSError):
                    beside.unlink()
        self._pending.clear()
