"""Eight threads on one Context and on one Responder, and forks after import; docs/testing.md."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opensslcmp import Context, Session, SharedSecret, Signer
from opensslcmp._native.queue import drain
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import MacParameters
from opensslcmp.enums import PKIStatus
from opensslcmp.errors import CMPError
from opensslcmp.server import open_responder
from opensslcmp.server.ca import CA
from opensslcmp.transport.inprocess import InProcess
from tests.server.device import KEYS
from tests.server.world import fresh_world

SECONDS = float(os.environ.get("OPENSSLCMP_THREADS_SECONDS", "2"))
THREADS = 8
SECRET = SharedSecret("device", "secret", parameters=MacParameters(iterations=10))


def together(work: Callable[[int], Any]) -> Counter[str]:
    """What eight threads did, who did it over and over until the time was over; raises what one of them raised."""
    end = time.monotonic() + SECONDS
    done: Counter[str] = Counter()
    failures: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait()
        turn = 0
        try:
            while (time.monotonic() < end or turn < 2) and not failures:
                work(number + turn * THREADS)
                turn += 1
                done[str(number)] += 1
            assert drain() == []
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]
    return done


@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_eight_threads_share_a_context_and_a_responder(store: str, tmp_path: Path) -> None:
    world = fresh_world()
    responder, ca = world.responder, world.ca
    if store == "sqlite":
        ca = CA.create(tmp_path / "ca", "CN=CA")
        responder = open_responder(tmp_path / "ca")
    ca.add_secret("device", "secret")
    by_secret = Context(credential=SECRET)
    first = Session(by_secret, InProcess(responder)).enroll("CN=device", key=KEYS[0])
    signer = Signer(first.certificate, KEYS[0], first.chain)
    by_signature = Context(credential=signer, trusted=first.ca_certificates)

    def work(number: int) -> None:
        context = by_secret if number % 2 else by_signature
        session = Session(context, InProcess(responder))
        issued = session.enroll(f"CN=device-{number}", key=KEYS[number % 3])
        assert issued.status is PKIStatus.ACCEPTED
        assert issued.certificate.subject.rfc4514_string() == f"CN=device-{number}"
        with pytest.raises(CMPError):
            Session(Context(credential=SharedSecret("device", "wrong")), InProcess(responder)).ca_certificates()
        assert session.ca_certificates()

    done = together(work)
    assert len(done) == THREADS
    if store == "sqlite":
        responder.close()
        ca.close()


CHILD = """
import os, sys
from opensslcmp import Context, Session, SharedSecret
from tests.server.world import fresh_world
from opensslcmp.transport.inprocess import InProcess
from opensslcmp.context.protection import fresh_bytes
world = fresh_world()
world.ca.add_secret("device", "secret")
session = Session(Context(credential=SharedSecret("device", "secret")), InProcess(world.responder))
session.enroll("CN=before", generate="ec:P-256")
read, write = os.pipe()
child = os.fork()
issued = session.enroll("CN=after", generate="ec:P-256")
if not child:
    os.write(write, fresh_bytes(16) + issued.certificate.serial_number.to_bytes(20, "big"))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
theirs = os.read(read, 100)
assert len(theirs) == 36
assert theirs[:16] != fresh_bytes(16)
assert theirs[16:] != issued.certificate.serial_number.to_bytes(20, "big")
print("both")
"""


def test_a_fork_after_import_goes_on_at_both_sides() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "both\n"), done.stderr


def _sign(number: int) -> bytes:
    key = PrivateKey.generate("ec:P-256")
    return key.sign(b"%d" % number)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing_make_keys_of_their_own(method: str) -> None:
    _sign(0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(_sign, range(4))
    assert len(set(found)) == 4
