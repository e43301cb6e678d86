"""State that survives: servers that are killed at any moment, many servers at once, and clients that ask again.

Sizes come from the environment (docs/testing.md): OPENSSLCMP_KILLS, OPENSSLCMP_ENROLLMENTS, OPENSSLCMP_CONNECTIONS.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import CA
from opensslcmp.server.store import CertificateRecord, CertificateState, Store, TransactionState
from tests.server.device import KEYS, certificate_of, crmf, mac_device, said
from tests.server.several import Connection, chance, copies, proxied, served, size
from tests.server.web_client import environment

KILLABLE = str(Path(__file__).with_name("killable_server.py"))
B, F = BodyType, FailureInfo

pytestmark = pytest.mark.timeout(3600)


@dataclass
class Fleet:
    """Clients that enroll at the same time, each on a connection of its own.

    Attributes:
        again: percent of answers that are asked for once more, with the same bytes.
        other: percent of transactionIDs that another message is sent with.
        certificates: what they got and confirmed, with their transactionIDs.
        refused: other messages with an id that was in use.
        asked_again: retransmissions, for any reason.
        answers: about how many came.
    """

    port: int
    again: int = 0
    other: int = 0
    certificates: list[tuple[bytes, bytes]] = field(default_factory=list)
    refused: int = 0
    asked_again: int = 0
    answers: int = 0
    failures: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, clients: int, wanted: Callable[[int], bool]) -> list[threading.Thread]:
        """Start them; each enrolls as long as ``wanted(how many were begun)``."""
        self._begun = 0
        threads = [threading.Thread(target=self._client, args=(at, wanted)) for at in range(clients)]
        for thread in threads:
            thread.start()
        return threads

    def _client(self, at: int, wanted: Callable[[int], bool]) -> None:
        dice = random.Random(at)
        connection = Connection(self.port)
        try:
            while True:
                with self._lock:
                    if self.failures or not wanted(self._begun):
                        return
                    self._begun += 1
                    number = self._begun
                self._enroll(connection, number, dice)
        except BaseException as error:
            self.failures.append(error)
        finally:
            connection.close()
            with self._lock:
                self.asked_again += connection.retransmitted

    def _enroll(self, connection: Connection, number: int, dice: random.Random) -> None:
        again = refused = 0
        chosen = self.again

        def ask(request: bytes) -> bytes:
            nonlocal again
            answer = connection(request)
            self.answers += 1
            while chance(dice, chosen):
                again += 1
                assert connection(request) == answer, "a retransmission got another answer"
            return answer

        device = mac_device(ask, time.time)
        certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0], f"CN=device {number}")))
        if chance(dice, self.other):
            nonce = device.recip_nonce
            chosen = 0  # a refusal leaves nothing behind, so it is made anew each time
            answer = device.send(B.IR, [crmf(KEYS[1], f"CN=other {number}")], recip_nonce=None)
            assert said(answer) == (B.ERROR, F.TRANSACTION_ID_IN_USE)
            device.recip_nonce, chosen, refused = nonce, self.again, 1
        answer = device.confirm(certificate)
        assert answer.body_type is B.PKICONF, said(answer)
        with self._lock:
            self.certificates.append((device.transaction_id, certificate))
            self.asked_again += again
            self.refused += refused


def check(fleet: Fleet, store: Store) -> None:
    """What the clients have is what the store has, once."""
    assert fleet.failures == []
    records: list[CertificateRecord] = list(store.every_certificate())
    assert Counter((each.transaction_id, each.certificate) for each in records) == Counter(fleet.certificates)
    assert max(Counter(each.transaction_id for each in records).values()) == 1
    assert {each.state for each in records} == {CertificateState.VALID}
    assert len(records) == store.certificates() == len(fleet.certificates)
    states: Counter[TransactionState] = Counter()
    for transaction_id, _ in fleet.certificates:
        transaction, _ = store.look(transaction_id, b"")
        assert transaction is not None
        states[transaction.state] += 1
    assert states == {TransactionState.CONFIRMED: len(fleet.certificates)}
    assert store.open_transactions(b"")[0] == 0
    assert store.revocations(0.0)[1] == []


def tell(text: str) -> None:
    """For who runs this at full size, with ``pytest -s``."""
    print(f"\n{text}")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Where state is kept; None: in a file."""
    if request.param == "sqlite":
        return None
    made: str = request.getfixturevalue("postgres").database()
    return made


def test_no_certificate_is_lost_or_issued_twice_when_the_server_is_killed(tmp_path: Path, url: str | None) -> None:
    kills = size("OPENSSLCMP_KILLS", 10)
    (directory,) = copies(tmp_path, 1, url)
    with CAOpen(directory) as ca:
        ca.add_secret("device", "secret")
    dice = random.Random(1)
    command = [sys.executable, KILLABLE, str(directory)]
    killed = 0
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        fleet = Fleet(int(server.stdout.readline()))
        threads = fleet.run(8, lambda _: killed < kills)
        done = threading.Event()
        while killed < kills and not fleet.failures:
            # Mostly while it works, sometimes before it has begun to.
            answers = fleet.answers
            while fleet.answers == answers and not fleet.failures and not chance(dice, 1):
                done.wait(0.01)
            done.wait(dice.uniform(0.0, 0.1))
            server.stdin.write("kill\n")
            server.stdin.flush()
            assert server.stdout.readline() == "again\n"
            killed += 1
        for thread in threads:
            thread.join()
        server.stdin.close()
        assert server.wait(20) == 0
    with CAOpen(directory) as ca:
        check(fleet, ca.store)
    assert fleet.certificates
    tell(f"{killed} kills, {len(fleet.certificates)} enrolled, {fleet.asked_again} retransmissions")


@pytest.mark.parametrize("servers", ["one, two workers", "three behind a proxy"])
def test_what_is_issued_recorded_and_confirmed_is_the_same(tmp_path: Path, url: str | None, servers: str) -> None:
    many = servers.startswith("three")
    if many and url is None:
        pytest.skip("several machines share PostgreSQL, not a file")
    number, connections = size("OPENSSLCMP_ENROLLMENTS", 200), size("OPENSSLCMP_CONNECTIONS", 20)
    directories = copies(tmp_path, 3 if many else 1, url)
    with CAOpen(directories[0]) as ca:
        ca.add_secret("device", "secret")
    began = time.monotonic()
    with served(*directories, workers=1 if many else 2) as ports, proxied(ports) as port:
        fleet = Fleet(port if many else ports[0], again=10, other=10)
        for thread in fleet.run(connections, lambda begun: begun < number):
            thread.join()
    with CAOpen(directories[-1]) as ca:
        check(fleet, ca.store)
    assert len(fleet.certificates) == number
    assert fleet.refused
    assert fleet.asked_again
    tell(
        f"{number} issued, recorded and confirmed over {connections} connections, {fleet.asked_again} retransmissions, "
        f"{fleet.refused} other messages refused, in {time.monotonic() - began:.0f} s"
    )


class CAOpen:
    """The CA in a directory, for a while."""

    def __init__(self, directory: Path) -> None:
        self._ca = CA.open(directory)

    def __enter__(self) -> CA:
        return self._ca

    def __exit__(self, *_: object) -> None:
        self._ca.close()
