"""Several servers on one store: whoever is asked says the same, and knows what the others did."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from opensslcmp.asn1 import admit
from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.server import CA, Responder
from opensslcmp.server.approval import Approval
from opensslcmp.server.postgres import PostgresStore
from opensslcmp.server.sqlstore import SQLStore
from opensslcmp.server.store import CertificateState, Store, certificate_key
from opensslcmp.server.vault import Vault
from tests.postgres import Server
from tests.server.device import KEYS, Device, certificate_of, crmf, mac_device, poll_request, said, status_of
from tests.server.world import Clock

T = TypeVar("T")

B, F = BodyType, FailureInfo


class Servers:
    """Three, each with a store and a CA of its own over one database."""

    def __init__(
        self, root: tuple[bytes, PrivateKey], open_store: Callable[[], Store], clock: Clock, vault: Path, approval: bool
    ) -> None:
        self.clock = clock
        Vault.create(vault)
        self.stores = [open_store() for _ in range(3)]
        self.cas = [CA(root[0], root[1], store, Vault(vault), clock=clock) for store in self.stores]
        self.responders = [
            Responder(
                Approval(ca, ca.store) if approval else ca,
                ca.store,
                ca.signer,
                secrets=ca.secrets.find,
                trust=Trust([root[0]]),
                clock=clock,
            )
            for ca in self.cas
        ]
        self.cas[0].add_secret("device", "secret")

    def device(self) -> Device:
        """A device that every server knows; ``device.handle = servers.responders[n].handle`` chooses one."""
        return mac_device(self.responders[0].handle, self.clock)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What these return, called in threads at the same time."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [each.result() for each in [threads.submit(call) for call in calls]]


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    made: list[Store] = []
    url = request.getfixturevalue("postgres").database() if request.param == "postgres" else ""

    def opened() -> Store:
        made.append(PostgresStore(url, pool_size=3) if url else SQLStore(tmp_path / "ca.db"))
        return made[-1]

    yield opened
    for each in made:
        each.close()


@pytest.fixture
def servers(
    root: tuple[bytes, PrivateKey], open_store: Callable[[], Store], clock: Clock, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Servers:  # fmt: skip
    return Servers(root, open_store, clock, tmp_path / "vault.key", getattr(request, "param", False))


def test_a_transaction_goes_on_at_any_server_and_a_retransmission_gets_the_same_bytes_from_any(
    servers: Servers,
) -> None:
    device = servers.device()
    one, two, three = (each.handle for each in servers.responders)
    answer = device.ask(B.IR, crmf(KEYS[0]))
    request = device.last_request
    assert one(request) == two(request) == three(request) == answer.der
    nonce = device.recip_nonce
    for device.handle in (one, two, three):
        other = device.send(B.IR, [crmf(KEYS[1], "CN=other")], recip_nonce=None)
        assert said(other) == (B.ERROR, F.TRANSACTION_ID_IN_USE)
    device.handle, device.recip_nonce = three, nonce
    done = device.confirm(certificate_of(answer))
    assert done.body_type is B.PKICONF
    assert one(device.last_request) == two(device.last_request) == done.der
    assert [each.certificates() for each in servers.stores] == [1, 1, 1]


@pytest.mark.parametrize("servers", [True], indirect=True)
def test_one_server_puts_off_another_is_polled_and_a_third_confirms(servers: Servers) -> None:
    device = servers.device()
    one, two, three = (each.handle for each in servers.responders)
    assert status_of(device.ask(B.IR, crmf(KEYS[0]))).status == PKIStatus.WAITING
    device.handle = two
    assert device.send(B.POLL_REQ, poll_request()).body_type is B.POLL_REP
    (application,) = servers.stores[2].applications()
    assert servers.stores[2].decide(application.id, True, "", servers.clock())
    device.handle = one
    certificate = certificate_of(device.send(B.POLL_REQ, poll_request()))
    device.handle = three
    assert device.confirm(certificate).body_type is B.PKICONF


def test_one_request_at_all_servers_at_once_gets_one_certificate(servers: Servers) -> None:
    for _ in range(5):
        device = servers.device()
        request = device.build(B.IR, [crmf(KEYS[0], f"CN={os.urandom(4).hex()}")])
        answers = at_once([partial(each.handle, request) for each in servers.responders])
        assert len(answers) == 3
        assert len(set(answers)) == 1
    assert servers.stores[0].certificates() == 5


def test_secrets_revocations_and_crls_of_one_server_hold_at_the_others(servers: Servers) -> None:
    device = servers.device()
    first, second, third = servers.cas
    certificate = device.enroll(KEYS[0])
    crl = third.current_crl()
    assert second.current_crl() == crl
    (record,) = servers.stores[1].every_certificate()
    first.change_status(record.serial_number, RevocationReason.KEY_COMPROMISE)
    after = second.current_crl()
    assert (after.number, after.revision) == (crl.number + 1, crl.revision + 1)
    assert third.current_crl() == first.current_crl() == after
    signing = device.signing(certificate, KEYS[0])
    signing.handle = servers.responders[2].handle
    signing.begin()
    assert said(signing.send(B.GENM, [])) == (B.ERROR, F.CERT_REVOKED)
    device.handle = servers.responders[1].handle
    assert device.enroll(KEYS[1])
    assert third.remove_secret("device")
    assert said(device.ask(B.IR, crmf(KEYS[2]))) == (B.ERROR, F.BAD_MESSAGE_CHECK)
    found = servers.stores[2].certificate(certificate_key(first._subject, record.serial_number))
    assert found is not None
    assert found.state is CertificateState.REVOKED


def test_servers_together_open_no_more_transactions_than_a_credential_may_have(servers: Servers) -> None:
    for each in servers.responders:
        each.profile = replace(each.profile, max_open_per_credential=4)
    requests = []
    for at in range(9):
        device = servers.device()
        message = device.build(B.IR, [crmf(KEYS[0], f"CN=device {at}")])
        requests.append(partial(servers.responders[at % 3].handle, message))
    kinds = Counter(admit(answer).body_type for answer in at_once(requests))
    assert kinds == {B.IP: 4, B.ERROR: 5}
    assert servers.stores[0].certificates() == 4


def test_crls_made_by_all_servers_at_once_have_one_number_each(servers: Servers) -> None:
    device = servers.device()
    device.enroll(KEYS[0])
    (record,) = servers.stores[0].every_certificate()
    servers.cas[0].change_status(record.serial_number, RevocationReason.SUPERSEDED)
    servers.clock.now += 5 * 86400
    made = at_once([ca.current_crl for ca in servers.cas])
    assert len(made) == 3
    assert len(set(made)) == 1


def test_a_database_that_started_anew_is_found_again(tmp_path: Path) -> None:
    server = Server(durable=True)
    try:
        store = PostgresStore(server.database(), pool_size=4, timeout_seconds=20)
        at_once([store.revision] * 4)
        ca = CA.create(tmp_path / "ca", "CN=Test CA")
        ca.close()
        again = CA(ca.certificate, PrivateKey.load(tmp_path / "ca" / "ca.key"), store, Vault(tmp_path / "ca/vault.key"))
        responder = Responder(again, store, again.signer, secrets=again.secrets.find)
        again.add_secret("device", "secret")
        device = mac_device(responder.handle, Clock())
        certificates = []
        for number in (signal.SIGINT, signal.SIGQUIT):
            certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0], f"CN=device {number}")))
            server.stop(number)
            server.start()
            assert device.confirm(certificate).body_type is B.PKICONF
            certificates.append(certificate)
        assert [each.certificate for each in store.every_certificate()] == certificates
        store.close()
    finally:
        server.remove()


def test_a_database_that_is_not_there_is_told_without_its_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from opensslcmp.server.stores import StoreSettings, open_store

    caplog.set_level(logging.DEBUG)
    secret = "s3cret-of-the-database"
    settings = StoreSettings(url=f"postgresql://ca:{secret}@/ca?host={tmp_path}", timeout_seconds=0.5)
    with pytest.raises(ConnectionError) as raised:
        open_store(settings, tmp_path)
    told = f"{raised.value!r} {raised.value.__cause__!r} {settings!r} {settings.place} {caplog.text}"
    assert str(tmp_path) in told
    assert secret not in told
    with pytest.raises(ValueError, match="url") as refused:
        StoreSettings(url=f"mysql://ca:{secret}@db/ca")
    assert secret not in repr(refused.value)
    with pytest.raises(ValueError, match="URL") as refused:
        PostgresStore(f"postgresql://ca:{secret}@host:port:x/ca?nonsense={secret}")
    assert secret not in repr(refused.value)
