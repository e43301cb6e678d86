"""Memory: what a session, an open transaction and a stored certificate take, and that enrollments leave nothing behind.

    python -m benchmarks.memory WHAT COUNT        prints JSON; WHAT is sessions, transactions or growth

Each runs in a process of its own, since memory once taken is seldom given back.
"""

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from benchmarks.anchor import Case
from benchmarks.ends import Ends
from benchmarks.network import ROOT
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.credentials import SharedSecret
from opensslcmp.errors import TransportError
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.store import Store

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


class _Renewed:
    """A memory store that forgets everything when it is told to."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._store = MemoryStore()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def growth(count: int) -> dict[str, float]:
    """Resident bytes that each of ``count`` enrollments leaves behind, signed and explicit, after a warm-up as long.

    What the server's store has to remember is left out: it is emptied every now and then, and before memory is read.
    """
    store = _Renewed()
    # Its signer is not one of the CA's, so that the store need not know the certificate.
    ends = Ends(Case(protection="signature", confirm="explicit"), store=cast("Store", store), path=1)

    def run() -> None:
        for done in range(0, count, 50):
            ends.run(min(50, count - done))
            store.renew()

    run()
    before = _resident()
    run()
    return {"count": count, "bytes_each": (_resident() - before) / count}


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
