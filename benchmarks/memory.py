"""Memory: what a session, an open transaction and a stored certificate take, and that enrollments leave nothing behind.

    python -m benchmarks.memory WHAT COUNT        prints JSON; WHAT is sessions, transactions or growth

Each runs in a process of its own, since memory once taken is seldom given back.
"""

import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.anchor import Case
from benchmarks.ends import Ends
from benchmarks.network import ROOT
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.credentials import SharedSecret
from opensslcmp.errors import TransportError
from opensslcmp.server.sqlstore import SQLStore

__all__ = ["growth", "in_child", "sessions", "transactions"]


def _resident() -> int:
    """Bytes."""
    gc.collect()
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def sessions(count: int) -> dict[str, float]:
    """Bytes of a Session of a device with a secret of its own, the rest of the Context shared."""
    shared = Context("http://127.0.0.1:9/", credential=SharedSecret("device", "secret"))
    kept = [Session(shared)]
    before = _resident()
    for number in range(count):
        kept.append(Session(shared.with_credential(SharedSecret(f"device-{number}", "secret"))))
    return {"count": count, "bytes_each": (_resident() - before) / count}


def transactions(count: int) -> dict[str, float]:
    """Bytes of a transaction that waits for its certConf, with the certificate it issued, in a memory store."""
    ends = Ends(Case(confirm="explicit"))
    ends.run(10)
    handle = ends.handle

    def first_only(request: bytes) -> bytes:
        if ends.requests:
            raise TransportError("the device has gone")
        return handle(request)

    ends.handle = first_only
    before = _resident()
    for _ in range(count):
        ends.requests = 0
        try:
            ends.enroll()
        except TransportError:
            continue
        raise AssertionError("it was confirmed")
    held, _ = ends.responder.store.open_transactions(b"")
    return {"count": held, "bytes_each": (_resident() - before) / held}


def growth(count: int) -> dict[str, float]:
    """Resident bytes that each of ``count`` enrollments leaves behind, signed and explicit, after a warm-up as long.

    The store is a file, so what the server has to remember is not in memory.
    """
    with tempfile.TemporaryDirectory() as scratch:
        store = SQLStore(Path(scratch) / "ca.db")
        ends = Ends(Case(protection="signature", confirm="explicit"), store=store)
        ends.run(count)
        before = _resident()
        ends.run(count)
        grown = _resident() - before
        store.close()
    return {"count": count, "bytes_each": grown / count}


def in_child(what: str, count: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", what, str(count)]
    child = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(child.stdout)
    return found


if __name__ == "__main__":
    print(
        json.dumps(
            {"sessions": sessions, "transactions": transactions, "growth": growth}[sys.argv[1]](int(sys.argv[2]))
        )
    )
