"""What time does: certificates that nobody confirmed, updates that stay open, also across a restart."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import CA, IssuingProfile, open_responder
from opensslcmp.server.store import CertificateState, certificate_key
from tests.server.device import KEYS, certificate_of, crmf, mac_device, revocation, said
from tests.server.world import Clock, World

B, F = BodyType, FailureInfo
BOTH = pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)


def key_of(certificate: bytes) -> bytes:
    about = facts(certificate)
    return certificate_key(about.issuer, about.serial_number)


def state_of(store: Any, certificate: bytes) -> CertificateState:
    state: CertificateState = store.certificate(key_of(certificate)).state
    return state


def test_what_nobody_confirmed_is_revoked_after_a_restart_too(tmp_path: Path, clock: Clock) -> None:
    CA.create(tmp_path / "ca", clock=clock).close()
    with closing(open_responder(tmp_path / "ca", clock=clock)) as first:
        authority: Any = first.authority
        authority.add_secret("device", "secret")
        device = mac_device(first.handle, clock)
        confirmed = device.enroll(KEYS[0])
        forgotten = certificate_of(device.ask(B.IR, crmf(KEYS[1])))
    clock.now += 599
    with closing(open_responder(tmp_path / "ca", clock=clock)) as second:
        assert second.sweep() == 0
        assert state_of(second.store, forgotten) is CertificateState.UNCONFIRMED
    clock.now += 3600
    with closing(open_responder(tmp_path / "ca", clock=clock)) as third:
        assert third.sweep() == 1
        assert state_of(third.store, forgotten) is CertificateState.REVOKED
        assert state_of(third.store, confirmed) is CertificateState.VALID
        crl = x509.load_der_x509_crl((tmp_path / "ca" / "ca.crl").read_bytes())
        assert [each.serial_number for each in crl] == [facts(forgotten).serial_number]
        device.handle = third.handle
        assert said(device.confirm(forgotten))[0] is B.ERROR
        assert third.sweep() == 0


@BOTH
@pytest.mark.parametrize("kind", ["kur", "ir", "cr", "rr"])
def test_while_an_update_is_open_the_old_certificate_asks_for_nothing_else(world: World, kind: str) -> None:
    device = world.device()
    old = device.enroll(KEYS[0])
    signing, again = device.signing(old, KEYS[0]), device.signing(old, KEYS[0])
    new = certificate_of(signing.ask(B.KUR, crmf(KEYS[1], old=old)))

    def ask() -> tuple[BodyType, FailureInfo | None]:
        if kind == "rr":
            again.begin()
            return said(again.send(B.RR, [revocation(old)]))
        return said(again.ask(B[kind.upper()], crmf(KEYS[2])))

    assert ask() == (B.ERROR, F.BAD_REQUEST)
    if kind == "kur":
        # Its time is up, and nobody has swept since: it counts as over all the same.
        world.clock.now += 598
        world.responder.sweep()
        assert said(device.ask(B.IR, crmf(KEYS[2], "CN=other"))) == (B.IP, None)
        world.clock.now += 2
        assert ask() == (B.KUP, None)
        assert state_of(world.store, new) is CertificateState.REVOKED
        return
    assert said(signing.confirm(new)) == (B.PKICONF, None)
    assert ask() == (B.ERROR, F.CERT_REVOKED)


@BOTH
def test_a_chain_of_updates_is_recorded(world: World) -> None:
    device = world.device()
    chain = [device.enroll(KEYS[0])]
    for number in (1, 2, 0):
        signing = device.signing(chain[-1], KEYS[(number - 1) % 3])
        new = certificate_of(signing.ask(B.KUR, crmf(KEYS[number], old=chain[-1])))
        assert said(signing.confirm(new)) == (B.PKICONF, None)
        chain.append(new)
    for before, after in itertools.pairwise(chain):
        record = world.store.certificate(key_of(after))
        assert record is not None
        assert record.updates == key_of(before)
        assert [each.certificate for each in world.store.successors(key_of(before))] == [after]
        assert state_of(world.store, before) is CertificateState.UPDATED
    assert world.store.successors(key_of(chain[-1])) == []
    assert state_of(world.store, chain[-1]) is CertificateState.VALID


@pytest.mark.parametrize("reuse", [False, True])
def test_the_same_key_is_updated_by_profile_only(make: Callable[..., World], reuse: bool) -> None:
    world = make(ca_profiles=[IssuingProfile(reuse_key=reuse)])
    device = world.device()
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    answer = signing.ask(B.KUR, crmf(KEYS[0], old=old))
    if not reuse:
        assert said(answer) == (B.KUP, F.BAD_CERT_TEMPLATE)
        assert state_of(world.store, old) is CertificateState.VALID
        return
    new = certificate_of(answer)
    assert said(signing.confirm(new)) == (B.PKICONF, None)
    assert facts(new).spki == facts(old).spki
    # The same key does not make the old certificate good again.
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.CERT_REVOKED)
    assert said(device.signing(new, KEYS[0]).ask(B.CR, crmf(KEYS[1]))) == (B.CP, None)


def test_a_clock_that_was_set_back_keeps_nobody_from_sweeping(world: World) -> None:
    world.clock.now += 86400.0
    assert world.responder.sweep_is_due()
    assert not world.responder.sweep_is_due()
    world.clock.now -= 86400.0
    assert world.responder.sweep_is_due()
    assert not world.responder.sweep_is_due()
