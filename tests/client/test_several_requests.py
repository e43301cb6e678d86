"""Several certificates by one message, and certificates for other CAs, against the package's own server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import BadMessage, Context, FailureInfo, Issued, Order, Rejected, Session, SharedSecret, Signer
from opensslcmp.asn1 import CertRepMessage, admit
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType
from opensslcmp.errors import TransportError
from opensslcmp.server import PROFILES, IssuingProfile, Responder
from opensslcmp.server.authority import CertificateRequest, Pending
from opensslcmp.server.rules import RFC9810, STRICT
from tests.client.client_peers import TWINS
from tests.server.world import World, fresh_world, other_ca

SECRET = SharedSecret("device-17", b"open sesame")
Twin = Callable[..., Session]


def many(profile: Any = RFC9810, most: int = 10) -> Any:
    import dataclasses

    return dataclasses.replace(profile, max_requests=most)


class Wire:
    """The way to a server, which remembers what went over it."""

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.sent: list[bytes] = []
        self.answers: list[bytes] = []
        self.broken_after = 1000

    def __call__(self, request: bytes) -> bytes:
        if len(self.sent) >= self.broken_after:
            raise TransportError("cut")
        self.sent.append(request)
        self.answers.append(self.responder.handle(request))
        return self.answers[-1]

    @property
    def kinds(self) -> list[str]:
        return [admit(each).body_type.text for each in self.sent]


class Slow:
    """An authority that puts off whose common name it is told, so many times."""

    def __init__(self, ca: Any, **times: int) -> None:
        self._ca = ca
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ca, name)

    def issue(self, request: CertificateRequest) -> Any:
        assert request.subject is not None
        name = x509.Name.from_bytes(request.subject).rfc4514_string().removeprefix("CN=")
        if self._times.get(name, 0) > 0:
            self._times[name] -= 1
            return Pending(check_after_seconds=1, reference=b"1")
        return self._ca.issue(request)


def wired(world: World, twin: Twin = Session, **context: Any) -> tuple[Session, Wire]:
    world.ca.add_secret(SECRET.reference, SECRET.secret)
    wire = Wire(world.responder)
    return twin(Context(credential=SECRET, **context), wire, sleep=lambda _: None), wire


def orders(*names: str, **fields: Any) -> list[Order]:
    return [Order(subject=f"CN={each}", generate="ec:P-256", **fields) for each in names]


@TWINS
@pytest.mark.parametrize("kind", ["ir", "cr"])
@pytest.mark.parametrize("profile", [RFC9810, STRICT], ids=["rfc9810", "strict"])
def test_several_certificates_come_by_one_message_and_are_confirmed_by_another(
    twin: Twin, kind: Any, profile: Any
) -> None:
    session, wire = wired(fresh_world(profile=many(profile)), twin)
    outcomes = session.enroll_several(orders("a", "b", "c", kind=kind))
    assert wire.kinds == [kind, "certConf"]
    assert len(admit(wire.sent[1]).content()) == 3
    subjects = []
    for each in outcomes:
        assert isinstance(each.result, Issued)
        assert each.result.key is not None
        assert facts(each.result.certificate.public_bytes(Encoding.DER)).spki == each.result.key.public_key_der
        subjects.append(each.result.certificate.subject.rfc4514_string())
    assert subjects == ["CN=a", "CN=b", "CN=c"]


@TWINS
def test_one_that_is_refused_spoils_no_other(twin: Twin) -> None:
    world = fresh_world(profile=many())
    session, wire = wired(world, twin)
    outcomes = session.enroll_several([*orders("a"), Order(subject="CN=Test CA", generate="ec:P-256"), *orders("c")])
    assert [each.result is not None for each in outcomes] == [True, False, True]
    error = outcomes[1].error
    assert isinstance(error, Rejected)
    assert error.failure is FailureInfo.BAD_CERT_TEMPLATE
    assert [each.cert_req_id for each in admit(wire.sent[1]).content()] == [0, 2]
    assert [world.ca.find(each.certificate.serial_number).state.name for each in outcomes if each.certificate] == [  # type: ignore[union-attr]
        "VALID",
        "VALID",
    ]


def test_implicit_confirmation_is_for_all_of_them() -> None:
    session, wire = wired(fresh_world(profile=many()))
    outcomes = session.enroll_several(orders("a", "b"), implicit_confirm=True)
    assert wire.kinds == ["ir"]
    assert all(isinstance(each.result, Issued) and each.result.implicitly_confirmed for each in outcomes)


@TWINS
def test_those_that_are_put_off_are_waited_for_and_the_others_confirmed_meanwhile(twin: Twin) -> None:
    world = fresh_world(profile=many())
    world.responder = world.again(Slow(world.ca, b=2), profile=many())
    session, wire = wired(world, twin)
    outcomes = session.enroll_several(orders("a", "b", "c"))
    assert all(each.error is None for each in outcomes)
    assert wire.kinds == ["ir", "certConf", "pollReq", "pollReq", "certConf"]
    assert [each.certificate.subject.rfc4514_string() for each in outcomes if each.certificate] == [
        "CN=a",
        "CN=b",
        "CN=c",
    ]


def test_all_of_them_may_be_put_off() -> None:
    world = fresh_world(profile=many())
    world.responder = world.again(Slow(world.ca, a=1, b=2), profile=many())
    session, wire = wired(world)
    assert all(each.error is None for each in session.enroll_several(orders("a", "b")))
    assert wire.kinds[0] == "ir"
    assert wire.kinds.count("certConf") == 2


@TWINS
def test_the_caller_refuses_one_of_them(twin: Twin) -> None:
    world = fresh_world(profile=many())
    session, wire = wired(world, twin)

    def look(issued: Issued) -> None:
        if issued.certificate.subject.rfc4514_string() == "CN=b":
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "not this one")

    outcomes = session.enroll_several(orders("a", "b"), confirm=look)
    assert outcomes[0].error is None
    assert isinstance(outcomes[1].error, Rejected)
    statuses = admit(wire.sent[1]).content()
    assert [each.status_info is None for each in statuses] == [True, False]
    states = sorted(each.state.name for each in world.store.every_certificate())
    assert states == ["REVOKED", "VALID"]


def test_each_names_its_profile() -> None:
    world = fresh_world(profile=many())
    world.ca.profiles["short"] = IssuingProfile(name="short", validity_days=3)
    world.ca.profiles["long"] = IssuingProfile(name="long", validity_days=30)
    session, _ = wired(world)
    outcomes = session.enroll_several(
        [Order(subject=f"CN={each}", generate="ec:P-256", profile=each) for each in ("long", "short")]
    )
    days = [
        (each.certificate.not_valid_after_utc - each.certificate.not_valid_before_utc).days
        for each in outcomes
        if each.certificate
    ]
    assert days[0] > days[1] > 0


def test_what_is_here_is_not_lost_when_the_line_breaks() -> None:
    world = fresh_world(profile=many())
    world.responder = world.again(Slow(world.ca, b=2), profile=many())
    session, wire = wired(world)
    wire.broken_after = 2
    outcomes = session.enroll_several(orders("a", "b"))
    assert isinstance(outcomes[0].result, Issued)
    assert isinstance(outcomes[1].error, TransportError)


def test_a_confirmation_that_did_not_arrive_is_no_certificate() -> None:
    session, wire = wired(fresh_world(profile=many()))
    wire.broken_after = 1
    outcomes = session.enroll_several(orders("a", "b"))
    assert [type(each.error) for each in outcomes] == [TransportError, TransportError]


def test_a_message_that_is_refused_as_a_whole_raises() -> None:
    world = fresh_world(profile=many())
    _, wire = wired(world)
    session = Session(Context(credential=SharedSecret("device-17", b"wrong"), unprotected_errors=True), wire)
    with pytest.raises(Rejected) as caught:
        session.enroll_several(orders("a", "b"))
    assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK


def test_a_server_that_takes_one_request_in_a_message_says_so_of_each() -> None:
    session, _ = wired(fresh_world())
    errors = [each.error for each in session.enroll_several(orders("a", "b"))]
    assert [each.failure for each in errors if isinstance(each, Rejected)] == [FailureInfo.BAD_REQUEST] * 2


@pytest.mark.parametrize(
    "given",
    [
        [],
        [*orders("a"), *orders("b", kind="cr")],
        orders("a", kind="kur"),
        orders("a", label="one"),
        orders("a", wait=False),
        [Order(subject="CN=a", generate="central")],
        [*orders("a", profile="x"), *orders("b")],
    ],
)
def test_orders_that_do_not_go_into_one_message(given: list[Order]) -> None:
    session, wire = wired(fresh_world(profile=many()))
    with pytest.raises(ValueError, match=r"order|request"):
        session.enroll_several(given)
    assert wire.sent == []


def test_an_answer_about_a_request_that_nobody_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = wired(fresh_world(profile=many()))
    from opensslcmp.client import several

    take = several._Several._take

    def twice(self: Any, answer: Any) -> None:
        import dataclasses

        content: CertRepMessage = answer.content
        doubled = dataclasses.replace(content, response=content.response * 2)
        take(self, dataclasses.replace(answer, content=doubled))

    monkeypatch.setattr(several._Several, "_take", twice)
    with pytest.raises(BadMessage, match="twice"):
        session.enroll_several(orders("a"))


# -- cross-certification -------------------------------------------------------------------------------------------


def crossing(twin: Twin, profile: str = "rfc9810", **options: Any) -> tuple[World, Session]:
    """The other CA's session with a CA that cross-certifies it."""
    certificate, key = other_ca()
    world = fresh_world()
    responder = world.again(cross_certification=Trust([certificate]), profile=PROFILES[profile])
    context = Context(credential=Signer(certificate, key), trusted=world.ca.certificate, **options)
    return world, twin(context, responder.handle)


@TWINS
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("implicit", [False, True])
def test_a_ca_is_cross_certified(twin: Twin, profile: str, implicit: bool) -> None:
    world, session = crossing(twin, profile)
    extensions = [
        x509.Extension(x509.BasicConstraints.oid, True, x509.BasicConstraints(True, 0)),
        x509.Extension(x509.NameConstraints.oid, True, x509.NameConstraints([x509.DNSName("a.example")], None)),
    ]
    issued = session.cross_certify(world.ca.certificate, extensions=extensions, validity=30, implicit_confirm=implicit)
    other = facts(other_ca()[0])
    assert issued.implicitly_confirmed is implicit
    issued.certificate.verify_directly_issued_by(x509.load_der_x509_certificate(world.ca.certificate))
    assert issued.certificate.subject.public_bytes() == other.subject
    assert issued.certificate.extensions.get_extension_for_class(x509.NameConstraints).critical
    record = world.ca.find(issued.certificate.serial_number)
    assert record is not None
    assert record.state.name == "VALID"
    assert abs(issued.certificate.not_valid_after_utc.timestamp() - time.time() - 30 * 86400) < 60


def test_an_end_entity_is_told_that_it_is_none() -> None:
    world = fresh_world()
    key = PrivateKey.generate("ec:P-256")
    world.ca.add_secret(SECRET.reference, SECRET.secret)
    issued = Session(Context(credential=SECRET), world.responder.handle).enroll("CN=device", key)
    responder = world.again(cross_certification=Trust([world.ca.certificate]))
    context = Context(credential=Signer(issued.certificate, key, issued.chain), trusted=world.ca.certificate)
    with pytest.raises(Rejected) as caught:
        Session(context, responder.handle).cross_certify(world.ca.certificate)
    assert caught.value.failure is FailureInfo.NOT_AUTHORIZED


def test_what_cross_certification_needs_is_said_before_anything_is_sent() -> None:
    world, session = crossing(Session)
    with pytest.raises(ValueError, match="certificate and the key"):
        Session(Context(credential=SECRET), session._waits.exchange).cross_certify(world.ca.certificate)
    with pytest.raises(ValueError, match="not that of the certificate"):
        session.cross_certify(world.ca.certificate, key=PrivateKey.generate("ec:P-256"))
    device = fresh_world()
    device.ca.add_secret(SECRET.reference, SECRET.secret)
    leaf = Session(Context(credential=SECRET), device.responder.handle).enroll("CN=device", generate="ec:P-256")
    with pytest.raises(ValueError, match="signing_algorithm"):
        session.cross_certify(leaf.certificate)


def test_a_cross_certificate_that_is_put_off_is_taken_up_again() -> None:
    certificate, key = other_ca()
    world = fresh_world()
    slow = Slow(world.ca, **{"Other CA": 1})
    responder = world.again(slow, cross_certification=Trust([certificate]))
    context = Context(credential=Signer(certificate, key), trusted=world.ca.certificate)
    session = Session(context, responder.handle)
    pending = session.cross_certify(world.ca.certificate, wait=False)
    from opensslcmp.client.pending import Pending as ClientPending

    assert isinstance(pending, ClientPending)
    assert pending.kind is BodyType.CCR
    issued = session.resume(ClientPending.load(pending.save()))
    assert isinstance(issued, Issued)
