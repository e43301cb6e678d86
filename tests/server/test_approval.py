"""Manual approval: what a person said yes to is one request, whatever else its requester sends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from opensslcmp.enums import BodyType as B
from opensslcmp.enums import PKIStatus
from opensslcmp.server.approval import Approval, pending_applications
from opensslcmp.server.peer import Peer
from tests.server.device import IMPLICIT, KEYS, Device, crmf, mac_device, poll_request, said, status_of
from tests.server.world import World

Make = Callable[..., World]
BOTH = pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)


def patient(world: World, reference: str = "device") -> Device:
    """A device of a CA where somebody approves."""
    responder = world.again(Approval(world.ca, world.store), retention_seconds=100.0)
    world.device(reference)
    return mac_device(lambda der: responder.handle(der, Peer(label="one")), world.clock, reference)


def waits(device: Device, transaction_id: bytes, subject: str, key: int = 0) -> bool:
    """Whether a request under this transactionID is put off."""
    device.begin()
    device.transaction_id = transaction_id
    return status_of(device.send(B.IR, [crmf(KEYS[key], subject)], general_info=[IMPLICIT])).status == PKIStatus.WAITING


def approve(world: World) -> None:
    (application,) = pending_applications(world.store)
    assert world.store.decide(application.id, True, "", world.clock.now)


@BOTH
def test_an_approval_is_for_what_was_asked_and_not_for_its_transaction_id(world: World) -> None:
    """transactionIDs are the requester's choice, and everybody on the way sees them."""
    device = patient(world)
    assert waits(device, b"1" * 16, "CN=harmless")
    approve(world)
    assert said(device.send(B.POLL_REQ, poll_request())) == (B.IP, None)
    world.clock.now += 1000
    world.responder.sweep()
    assert waits(device, b"1" * 16, "CN=another name")
    assert waits(patient(world, "other"), b"2" * 16, "CN=harmless", key=1)


def test_an_approval_is_for_the_label_where_it_was_asked(world: World) -> None:
    device = patient(world)
    assert waits(device, b"1" * 16, "CN=harmless")
    approve(world)
    responder = world.again(Approval(world.ca, world.store))
    elsewhere = dataclasses.replace(device, handle=lambda der: responder.handle(der, Peer(label="other")))
    assert said(elsewhere.send(B.POLL_REQ, poll_request()))[0] is B.POLL_REP
    assert len(pending_applications(world.store)) == 1
