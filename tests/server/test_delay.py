"""Answers that come later, to requests of every type."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.asn1 import InfoTypeAndValue, Message, admit, oids
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import facts
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import Rejected
from opensslcmp.server import (
    CA,
    CertificateRequest,
    InfoRequest,
    Issued,
    Pending,
    RevocationRequest,
    open_responder,
)
from opensslcmp.server.rules import PROFILES, RFC9810
from opensslcmp.server.store import CertificateState, certificate_key
from opensslcmp.transport import InProcess
from tests.server.device import (
    KEYS,
    Device,
    certificate_of,
    conf,
    crmf,
    csr,
    mac_device,
    poll_request,
    revocation,
    said,
    status_of,
)
from tests.server.world import Clock, World

B, F, R = BodyType, FailureInfo, RevocationReason
BOTH = pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
DAYS = 86400.0


class Patient:
    """An authority that says "later" to everything until it is allowed, or so many times."""

    def __init__(
        self, ca: CA, *, times: int | None = None, kinds: tuple[str, ...] = ("issue", "revoke", "info")
    ) -> None:
        self.ca = ca
        self.times = times
        self.kinds = kinds
        self.refusal: Rejected | None = None
        self.references: list[bytes | None] = []

    def _later(self, kind: str, pending: bytes | None = None) -> Pending | None:
        if kind not in self.kinds:
            return None
        self.references.append(pending)
        if self.times == 0:
            if self.refusal is not None:
                raise self.refusal
            return None
        if self.times is not None:
            self.times -= 1
        return Pending(check_after_seconds=7, text="ask my boss", reference=b"ticket")

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        return self._later("issue", request.pending) or self.ca.issue(request)

    def confirm(self, issued: Issued, accepted: bool) -> Pending | None:
        return self._later("confirm")

    def revoke(self, request: RevocationRequest) -> Pending | None:
        assert len(request.transaction_id) == 16
        later = self._later("revoke", request.pending)
        if later is None:
            self.ca.revoke(request)
        return later

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue] | Pending:
        assert len(request.transaction_id) == 16
        return self._later("info", request.pending) or self.ca.info(request)


def state_of(world: World, certificate: bytes) -> CertificateState:
    about = facts(certificate)
    record = world.store.certificate(certificate_key(about.issuer, about.serial_number))
    assert record is not None
    return record.state


Asking = Callable[[Device, bytes], Message]


def _genm(device: Device, old: bytes) -> Message:
    device.begin()
    return device.send(B.GENM, [InfoTypeAndValue.make(oids.IT_CA_CERTS)])


def _rr(device: Device, old: bytes) -> Message:
    device.begin()
    return device.send(B.RR, [revocation(old, R.SUPERSEDED)])


REQUESTS: dict[str, tuple[Asking, BodyType, BodyType, int]] = {
    # how to ask, what comes first, what comes in the end, certReqId to poll for
    "ir": (lambda device, old: device.ask(B.IR, crmf(KEYS[1], "CN=new")), B.IP, B.IP, 0),
    "cr": (lambda device, old: device.ask(B.CR, crmf(KEYS[1], "CN=new")), B.CP, B.CP, 0),
    "kur": (lambda device, old: device.ask(B.KUR, crmf(KEYS[1], old=old)), B.KUP, B.KUP, 0),
    "p10cr": (lambda device, old: device.ask(B.P10CR, csr(KEYS[1], "CN=new")), B.CP, B.CP, -1),
    "rr": (_rr, B.ERROR, B.RP, -1),
    "genm": (_genm, B.ERROR, B.GENP, -1),
}


@BOTH
@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("profile", PROFILES)
def test_any_request_may_wait_and_any_worker_has_its_answer(
    make: Callable[..., World], kind: str, profile: str
) -> None:
    world = make(profile=PROFILES[profile])
    patient = Patient(world.ca)
    device = world.device()
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    ask, first, final, request_id = REQUESTS[kind]

    def worker() -> None:
        signing.handle = world.again(patient, profile=PROFILES[profile]).handle

    worker()
    answer = ask(signing, old)
    assert (answer.body_type, status_of(answer).status) == (first, PKIStatus.WAITING)
    assert status_of(answer).text == ("ask my boss",)
    if first is not B.ERROR:
        assert [each.cert_req_id for each in answer.content().response] == [request_id]
    worker()
    report = signing.send(B.POLL_REQ, poll_request(request_id))
    assert [(item.cert_req_id, item.check_after) for item in report.content()] == [(request_id, 7)]
    assert signing.handle(signing.last_request) == report.der
    # For anything but a certificate of ir, cr and kur there is only the whole answer.
    assert said(signing.send(B.POLL_REQ, poll_request(5))) == (B.ERROR, F.BAD_REQUEST)
    world.clock.now += 6 * DAYS
    worker()
    whole = signing.send(B.POLL_REQ, poll_request(-1))
    assert [item.cert_req_id for item in whole.content()] == [-1]
    patient.times = 0
    worker()
    answer = signing.send(B.POLL_REQ, poll_request(request_id))
    assert answer.body_type is final
    assert signing.handle(signing.last_request) == answer.der
    if kind == "rr":
        assert said(answer) == (B.RP, None)
        assert state_of(world, old) is CertificateState.REVOKED
    elif kind != "genm":
        confirmation = [conf(certificate_of(answer), request_id=request_id)]
        assert said(signing.send(B.CERT_CONF, confirmation)) == (B.PKICONF, None)
        assert said(signing.send(B.POLL_REQ, poll_request(request_id)))[0] is B.ERROR
    assert patient.references[0] is None
    assert set(patient.references[1:]) == {b"ticket"}


@BOTH
def test_a_cert_conf_may_wait(world: World) -> None:
    patient = Patient(world.ca, kinds=("confirm",))
    device = world.device(handle=world.again(patient).handle)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    answer = device.confirm(certificate)
    assert (answer.body_type, status_of(answer).status) == (B.ERROR, PKIStatus.WAITING)
    assert state_of(world, certificate) is CertificateState.UNCONFIRMED
    assert said(device.send(B.POLL_REQ, poll_request(-1))) == (B.POLL_REP, None)
    world.clock.now += DAYS
    patient.times = 0
    device.handle = world.again(patient).handle
    assert said(device.send(B.POLL_REQ, poll_request(-1))) == (B.PKICONF, None)
    assert state_of(world, certificate) is CertificateState.VALID
    assert said(device.confirm(certificate)) == (B.ERROR, F.CERT_CONFIRMED)


@BOTH
def test_a_cert_conf_that_is_refused_in_the_end_takes_the_certificate_back(world: World) -> None:
    patient = Patient(world.ca, kinds=("confirm",))
    device = world.device(handle=world.again(patient).handle)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    assert status_of(device.confirm(certificate)).status == PKIStatus.WAITING
    patient.times, patient.refusal = 0, Rejected(F.NOT_AUTHORIZED, "my boss says no")
    with pytest.MonkeyPatch.context() as patch:
        # Of its end only "accepted" is refused.
        original = patient.confirm
        patch.setattr(patient, "confirm", lambda issued, accepted: original(issued, accepted) if accepted else None)
        answer = device.send(B.POLL_REQ, poll_request(-1))
    assert said(answer) == (B.ERROR, F.NOT_AUTHORIZED)
    assert status_of(answer).text == ("my boss says no",)
    assert state_of(world, certificate) is CertificateState.REVOKED
    device.recip_nonce = answer.sender_nonce
    assert said(device.send(B.POLL_REQ, poll_request(-1))) == (B.ERROR, F.BAD_REQUEST)


def test_a_certificate_that_is_revoked_while_its_cert_conf_waits_stays_so(world: World) -> None:
    patient = Patient(world.ca, kinds=("confirm",), times=1)
    device = world.device(handle=world.again(patient).handle)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    assert status_of(device.confirm(certificate)).status == PKIStatus.WAITING
    world.ca.change_status(facts(certificate).serial_number, R.KEY_COMPROMISE)
    assert said(device.send(B.POLL_REQ, poll_request(-1))) == (B.ERROR, F.CERT_REVOKED)
    assert state_of(world, certificate) is CertificateState.REVOKED


@pytest.mark.parametrize(("kind", "expected"), [("ir", B.IP), ("rr", B.RP), ("genm", B.ERROR)])
def test_a_refusal_may_come_later_too_and_ends_the_waiting(world: World, kind: str, expected: BodyType) -> None:
    patient = Patient(world.ca)
    device = world.device()
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    signing.handle = world.again(patient).handle
    ask, _, _, request_id = REQUESTS[kind]
    ask(signing, old)
    patient.times, patient.refusal = 0, Rejected(F.NOT_AUTHORIZED, "my boss says no")
    answer = signing.send(B.POLL_REQ, poll_request(request_id))
    assert said(answer) == (expected, F.NOT_AUTHORIZED)
    assert status_of(answer).text == ("my boss says no",)
    signing.recip_nonce = answer.sender_nonce
    assert said(signing.send(B.POLL_REQ, poll_request(request_id))) == (B.ERROR, F.BAD_REQUEST)
    assert state_of(world, old) is CertificateState.VALID


def test_waiting_ends_by_itself_and_polling_makes_it_no_longer(world: World) -> None:
    patient = Patient(world.ca)
    responder = world.again(patient, wait_seconds=100)
    device = world.device(handle=responder.handle)
    device.ask(B.IR, crmf(KEYS[0]))
    world.clock.now += 99
    assert said(device.send(B.POLL_REQ, poll_request())) == (B.POLL_REP, None)
    world.clock.now += 1
    assert said(device.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.BAD_REQUEST)


def test_a_stranger_does_not_fetch_what_another_waits_for(world: World) -> None:
    patient = Patient(world.ca)
    device = world.device(handle=world.again(patient).handle)
    device.ask(B.IR, crmf(KEYS[0]))
    other = world.device("other", handle=device.handle)
    other.transaction_id, other.recip_nonce = device.transaction_id, device.recip_nonce
    patient.times = 0
    assert said(other.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.BAD_REQUEST)
    certificate_of(device.send(B.POLL_REQ, poll_request()))


def test_requests_of_any_type_that_wait_are_bounded(make: Callable[..., World]) -> None:
    world = make(profile=dataclasses.replace(RFC9810, max_open_per_credential=2))
    device = world.device(handle=world.again(Patient(world.ca), profile=world.responder.profile).handle)
    for _ in range(2):
        assert status_of(_genm(device, b"")).status == PKIStatus.WAITING
    assert said(_genm(device, b"")) == (B.ERROR, F.SYSTEM_UNAVAIL)


def test_a_requester_that_gives_up_ends_the_waiting(world: World) -> None:
    from opensslcmp.asn1 import ErrorMsgContent, PKIStatusInfo

    device = world.device(handle=world.again(Patient(world.ca)).handle)
    device.ask(B.IR, crmf(KEYS[0]))
    content = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION))
    assert said(device.send(B.ERROR, content)) == (B.PKICONF, None)
    assert said(device.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.BAD_REQUEST)


def test_an_answer_is_fetched_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    CA.create(tmp_path / "ca").close()
    first: Any = open_responder(tmp_path / "ca", clock=clock)
    first.authority.add_secret("device", "secret")
    first.authority = Patient(first.authority)
    device = mac_device(first.handle, clock)
    device.ask(B.IR, crmf(KEYS[0]))
    report = device.send(B.POLL_REQ, poll_request())
    poll = device.last_request
    first.close()
    clock.now += 3 * DAYS
    second = open_responder(tmp_path / "ca", clock=clock)
    assert second.handle(poll) == report.der
    device.handle = second.handle
    certificate = certificate_of(device.send(B.POLL_REQ, poll_request()))
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    second.close()


@pytest.mark.parametrize("implicit", [False, True])
def test_our_session_polls_every_operation_to_its_end(world: World, implicit: bool) -> None:
    waited: list[float] = []
    patient = Patient(world.ca, kinds=("issue", "revoke", "info", "confirm"))
    way = InProcess(world.again(patient, clock=time.time))
    world.device()

    def session(credential: SharedSecret | Signer, **options: Any) -> Session:
        patient.times = 2
        context = Context(credential=credential, implicit_confirm=implicit, **options)
        return Session(context, way, sleep=waited.append)

    key, other = x509_key(), x509_key()
    trusted = [world.ca.certificate]
    issued = session(SharedSecret("device", "secret")).enroll("CN=device", key)
    credential = Signer(issued.certificate, key)
    assert session(credential, trusted=trusted).request_info(oids.IT_CA_CERTS)
    renewed = session(credential, trusted=trusted).update(key=other)
    session(Signer(renewed.certificate, other), trusted=trusted).revoke(renewed.certificate)
    assert set(waited) == {7.0}
    assert len(waited) >= 4
    assert state_of(world, renewed.certificate.public_bytes(Encoding.DER)) is CertificateState.REVOKED


def x509_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def test_a_poll_answer_is_one_message(world: World) -> None:
    device = world.device(handle=world.again(Patient(world.ca)).handle)
    device.ask(B.IR, crmf(KEYS[0]))
    poll = device.build(B.POLL_REQ, poll_request())
    first = device.handle(poll)
    assert admit(first).body_type is B.POLL_REP
    assert {world.again(Patient(world.ca)).handle(poll) for _ in range(3)} == {first}
