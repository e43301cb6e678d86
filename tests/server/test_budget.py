"""How often one message goes into C: each crossing may wait for the GIL (5 ms beside a busy thread), so they are counted.

Times are not asserted here; ``benchmarks/`` measures them side by side with a C program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from opensslcmp._native import lib
from opensslcmp.asn1 import InfoTypeAndValue, oids
from opensslcmp.context import certificates, keys, protection
from opensslcmp.enums import BodyType, FailureInfo
from tests.server.device import KEYS, Device, certificate_of, conf, crmf, revocation, said
from tests.server.world import World

B = BodyType


class Counting:
    """``lib`` that counts the calls of its functions."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        value = getattr(lib, name)
        if not callable(value) or not name.startswith(("opensslcmp_", "EVP_", "X509_", "ERR_", "OSSL_")):
            return value

        def counted(*args: Any) -> Any:
            self.calls[name] += 1
            return value(*args)

        return counted


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Crossings since the counter was cleared."""
    counting = Counting()
    for module in (certificates, keys, protection):
        monkeypatch.setattr(module, "lib", counting)
    return counting.calls


def counted(device: Device, calls: Counter[str], body: BodyType, content: Any, **fields: Any) -> tuple[Any, int]:
    """The answer to one message, and how many crossings the server made for it."""
    original = device.handle

    def handle(request: bytes) -> bytes:
        calls.clear()
        answer = original(request)
        made.append(sum(calls.values()))
        return answer

    made: list[int] = []
    device.handle = handle
    try:
        return device.send(body, content, **fields), made[0]
    finally:
        device.handle = original


def test_an_unknown_reference_costs_the_crossings_of_a_wrong_secret(world: World, calls: Counter[str]) -> None:
    """The same work under the same limits: what a stranger could tell apart by time is not there."""
    world.ca.add_secret("known", "right")
    costs = []
    for reference in ("known", "unknown"):
        device = world.device(reference, "wrong")
        if reference == "unknown":
            world.ca.remove_secret("unknown")
        device.begin()
        answer, made = counted(device, calls, B.GENM, [])
        assert said(answer) == (B.ERROR, FailureInfo.BAD_MESSAGE_CHECK)
        costs.append((made, dict(calls)))
    assert costs[0] == costs[1]
    assert costs[0][0] > 0


def test_a_message_under_a_mac_crosses_at_most_4_times(world: World, calls: Counter[str]) -> None:
    device = world.device()
    device.begin()
    answer, made = counted(device, calls, B.IR, [crmf(KEYS[0])])
    assert made == 4, calls  # verify, proof of possession, issue, protect
    _, made = counted(device, calls, B.CERT_CONF, [conf(certificate_of(answer))])
    assert made == 2, calls
    device.begin()
    _, made = counted(device, calls, B.GENM, [InfoTypeAndValue.make(oids.IT_CA_CERTS)])
    assert made == 2, calls


def test_a_signed_message_crosses_at_most_5_times(
    world: World, calls: Counter[str], make: Callable[..., World]
) -> None:
    device = world.device()
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    signing.begin()
    answer, made = counted(signing, calls, B.KUR, [crmf(KEYS[1], old=certificate)])
    assert made <= 7, calls  # verify, path (built once), proof of possession, issue, protect
    new = certificate_of(answer)
    _, made = counted(signing, calls, B.CERT_CONF, [conf(new)])
    assert made == 2, calls
    signing = device.signing(new, KEYS[1])
    signing.begin()
    _, made = counted(signing, calls, B.RR, [revocation(new)])
    assert made <= 8, calls


def test_garbage_crosses_once(world: World, calls: Counter[str]) -> None:
    world.responder.handle(b"warm")
    calls.clear()
    world.responder.handle(b"nonsense")
    assert sum(calls.values()) == 1, calls


def test_counting_counts() -> None:
    counting = Counting()
    counting.ERR_peek_error()
    assert counting.calls == {"ERR_peek_error": 1}
    assert isinstance(SimpleNamespace(n=counting.X509_V_ERR_CERT_REVOKED).n, int)
