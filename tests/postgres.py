"""A PostgreSQL server for the tests: made in a temporary directory, on a Unix socket, ended with the tests.

It runs as an unprivileged user, since PostgreSQL refuses root. Tests that need it skip when Debian's package
``postgresql`` is not there; ``OPENSSLCMP_NEED_POSTGRES=1``, which CI sets, makes them fail instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

__all__ = ["Server", "find_programs"]


def find_programs() -> Path | None:
    """The directory of PostgreSQL's programs, of the newest version there is."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return debian[-1].parent if debian else None


class Server:
    """A PostgreSQL server with a superuser ``cmp`` who needs no password on its socket.

    Args:
        durable: it waits for the disk.
    """

    def __init__(self, *, durable: bool = False) -> None:
        programs = find_programs()
        if programs is None:
            text = "PostgreSQL's programs are not here (Debian: apt-get install postgresql)"
            if os.environ.get("OPENSSLCMP_NEED_POSTGRES"):
                pytest.fail(text)
            pytest.skip(text)
        self._programs = programs
        self._user = _unprivileged()
        self.directory = Path(tempfile.mkdtemp(prefix="cmp-pg-", dir="/tmp"))
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._durable = durable
        self._call("initdb", "-D", self.data, "-U", "cmp", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        self.start()

    @property
    def data(self) -> str:
        return str(self.directory / "data")

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "fsync": "on" if self._durable else "off",
            "max_connections": "100",
            "shared_buffers": "32MB",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data, *arguments],
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 -- nothing but one system call
                **self._as_user(),
            )
        deadline = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url("postgres")):
                return
            time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL did not start: {(self.directory / 'log').read_text()[-2000:]}")

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it; ``SIGQUIT`` is as a crash."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=60)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"d{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://cmp@/{name}?host={self.directory}"

    def remove(self) -> None:
        """Stop it, and remove all it has."""
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _call(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120, **self._as_user())

    def _as_user(self) -> dict[str, Any]:
        user = self._user
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        return {"cwd": "/", "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}, **who}


def _end_with_parent() -> None:
    """The process does not outlive the one that started it, however that one ends (prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom root runs it as; None: it is run as who we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("there is no unprivileged user")
