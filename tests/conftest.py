"""What every test has: versions in the header, ``@pytest.mark.needs("3.2")``, and a look for processes left behind."""

import contextlib
import ctypes
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cffi
import cryptography
import pytest

from opensslcmp import __version__
from opensslcmp._native import ffi, lib
from opensslcmp.testing import plugin
from tests.secrets_seen import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]

PR_SET_CHILD_SUBREAPER = 36
# Of multiprocessing, and the PostgreSQL server that tests share (tests/postgres.py).
_KEPT = ("multiprocessing", "/cmp-pg-", "postgres: ")


def pytest_configure(config: pytest.Config) -> None:
    # Our own plugin, where the package is not installed.
    if not config.pluginmanager.has_plugin("opensslcmp"):
        config.pluginmanager.register(plugin, "opensslcmp")
    # A shell that starts us in the background has SIGINT ignored, and our children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Orphans of a child become ours, so that a server which leaves its workers behind is seen (prctl(2)).
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_report_header(config: pytest.Config) -> str:
    return (
        f"opensslcmp {__version__}, OpenSSL compiled {_number(lib.OPENSSL_VERSION_NUMBER)}"
        f" (level {_level_text(lib.OPENSSLCMP_LEVEL)}), loaded {ffi.string(lib.OpenSSL_version(0)).decode()},"
        f" {platform.python_implementation()} {platform.python_version()}, cffi {cffi.__version__},"
        f" cryptography {cryptography.__version__}"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("needs"):
            (level,) = mark.args
            if _level_number(level) > lib.OPENSSLCMP_LEVEL:
                item.add_marker(
                    pytest.mark.skip(reason=f"needs OpenSSL {level}, this is {_level_text(lib.OPENSSLCMP_LEVEL)}")
                )


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a process running which was not there before it."""
    before = _children()
    yield
    deadline = time.monotonic() + 5
    while (left := _children() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    if left:
        names = [_command(pid) for pid in left]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        pytest.fail(f"left running: {names}")


def _children() -> set[int]:
    """The running child processes of this one; none where there is no /proc."""
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread may have ended since
            found |= {int(pid) for pid in path.read_text().split()}
    return {pid for pid in found if (command := _command(pid)) and not any(kept in command for kept in _KEPT)}


def _command(pid: int) -> str:
    """The command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _number(version: int) -> str:
    return f"{version >> 28}.{version >> 20 & 0xFF}.{version >> 4 & 0xFF}"


def _level_number(text: str) -> int:
    major, minor = text.split(".")
    return int(major) * 10 + int(minor)


def _level_text(level: int) -> str:
    return f"{level // 10}.{level % 10}"
