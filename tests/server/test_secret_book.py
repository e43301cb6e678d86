"""Secrets by reference: a new one in the place of an old one, with a time in which both are accepted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from opensslcmp._native import lib
from opensslcmp.asn1 import Message, admit, der, encode
from opensslcmp.context import certificates, keys, protection
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server.store import Conflict, Store
from tests.server.device import KEYS, crmf, mac_device, said
from tests.server.test_budget import Counting
from tests.server.world import World

B, F = BodyType, FailureInfo
BOTH = pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
REFUSED = (B.ERROR, F.BAD_MESSAGE_CHECK)


@pytest.fixture
def rolling(make: Callable[..., World]) -> World:
    """A world whose Responder knows of rotations."""
    world = make()
    world.responder = world.again(rotating=world.ca.secrets.rotating)
    world.ca.add_secret("device", "old")
    return world


def ask(world: World, secret: str, reference: str = "device") -> Message:
    return mac_device(world.responder.handle, world.clock, reference, secret).ask(B.IR, crmf(KEYS[0]))


@BOTH
def test_both_secrets_are_accepted_during_the_overlap_and_the_new_one_after_it(rolling: World) -> None:
    secrets = rolling.ca.secrets
    assert secrets.rotate("device", "new", overlap_seconds=60) == b"new"
    for secret in ("old", "new"):
        device = mac_device(rolling.responder.handle, rolling.clock, "device", secret)
        device.enroll(KEYS[0])
        answer = admit(device.handle(device.last_request))
        device.check(answer, secret.encode())  # the answer is protected as the request was
    assert said(ask(rolling, "neither")) == REFUSED
    rolling.clock.now += 61
    assert said(ask(rolling, "old")) == REFUSED
    assert said(ask(rolling, "new"))[0] is B.IP


def test_without_an_overlap_the_old_one_is_refused_at_once(rolling: World) -> None:
    made = rolling.ca.secrets.rotate("device")
    assert len(made) == 20
    assert said(ask(rolling, "old")) == REFUSED
    assert said(ask(rolling, made.decode()))[0] is B.IP


@BOTH
def test_a_single_use_secret_stays_one_over_both(rolling: World) -> None:
    rolling.ca.add_secret("once", "old", single_use=True)
    rolling.ca.secrets.rotate("once", "new", overlap_seconds=60)
    assert said(ask(rolling, "old", "once"))[0] is B.IP
    assert said(ask(rolling, "new", "once")) == (B.ERROR, F.NOT_AUTHORIZED)
    rolling.ca.secrets.rotate("once", "newer", overlap_seconds=60)
    assert said(ask(rolling, "new", "once")) == REFUSED  # the old one was used
    assert said(ask(rolling, "newer", "once"))[0] is B.IP


@BOTH
def test_what_a_secret_may_be_used_for_does_not_change(rolling: World) -> None:
    rolling.ca.add_secret("bound", "old", subject="CN=device", profiles=["default"])
    rolling.ca.secrets.rotate("bound", "new", overlap_seconds=5)
    kept = rolling.store.secret(b"bound")
    assert kept is not None
    assert (kept.subject, kept.profiles, kept.previous_until) == ("CN=device", ("default",), rolling.clock.now + 5)


@BOTH
def test_rotating_is_known_as_long_as_it_lasts(rolling: World) -> None:
    secrets = rolling.ca.secrets
    assert not secrets.rotating()
    secrets.rotate("device", "new", overlap_seconds=60)
    assert secrets.rotating()
    rolling.clock.now += 60
    assert not secrets.rotating()


def test_what_cannot_be_rotated_is_told(rolling: World, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = rolling.ca.secrets
    for arguments, words in (
        (("nobody", "x"), "no secret"),
        (("device", ""), "empty"),
        (("device", "old"), "is the old one"),
    ):
        with pytest.raises(ValueError, match=words):
            secrets.rotate(*arguments)
    with pytest.raises(ValueError, match="negative"):
        secrets.rotate("device", "x", overlap_seconds=-1)
    monkeypatch.setattr(rolling.store, "replace_secret", lambda *_: False)
    with pytest.raises(Conflict):
        secrets.rotate("device", "x")


@BOTH
def test_of_two_rotations_at_once_one_wins(rolling: World, store: Store) -> None:
    old = store.secret(b"device")
    assert old is not None
    rolling.ca.secrets.rotate("device", "new")
    assert not store.replace_secret(old, old.sealed)
    rolling.ca.remove_secret("device")
    assert not store.replace_secret(old, old.sealed)


# -- nobody learns which references there are ----------------------------------------------------------------------

CASES = {"wrong": "device", "unknown": "nobody", "overlapping": "rotated"}


@pytest.fixture
def crossings(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counting = Counting()
    for module in (certificates, keys, protection):
        monkeypatch.setattr(module, "lib", counting)
    assert callable(lib.ERR_clear_error)
    return counting.calls


def shape(answer: Message) -> tuple[object, ...]:
    """All of an answer but its nonces, its time, and what stands for the request's."""
    header = answer.header
    return (
        answer.body_type,
        answer.body_der,
        encode(header.sender),
        header.pvno,
        der(header.protection_alg) if header.protection_alg else None,
        header.sender_kid,
        answer.extra_certs,
        len(header.sender_nonce or b""),
    )


@pytest.mark.parametrize("rotating", [False, True])
def test_an_unknown_reference_a_wrong_secret_and_one_in_rotation_look_and_cost_the_same(
    rolling: World, crossings: Counter[str], rotating: bool
) -> None:
    rolling.ca.add_secret("rotated", "old")
    if rotating:
        rolling.ca.secrets.rotate("rotated", "new", overlap_seconds=60)
    looks, costs = [], []
    for reference in CASES.values():
        device = mac_device(rolling.responder.handle, rolling.clock, reference, "none of them")
        request = device.build(B.IR, [crmf(KEYS[0])], recipient=b"0\x00")
        crossings.clear()
        answer = rolling.responder.handle(request)
        costs.append(Counter(crossings))
        looks.append(shape(admit(answer)))
    assert looks[0] == looks[1] == looks[2]
    assert costs[0] == costs[1] == costs[2]


@pytest.mark.parametrize("http", [False, True])
def test_the_program_that_compares_times_runs(tmp_path: Path, http: bool) -> None:
    """What it finds out is not asserted here: docs/security.md tells how to run it for that."""
    program = Path(__file__).parents[2] / "benchmarks" / "reference_timing.py"
    done = subprocess.run(
        [sys.executable, str(program), "--tries", "5", "--json", *(["--http"] if http else [])],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
    )
    told = json.loads(done.stdout)
    assert told["tries"] == 5
    assert {each["clock"] for each in told["pairs"]} == ({"wall"} if http else {"cpu", "wall"})
    assert {"wrong/unknown", "wrong/fresh", "wrong/wrong"} <= {each["pair"] for each in told["pairs"]}
    assert all(0 <= each["p"] <= 1 for each in told["pairs"])
