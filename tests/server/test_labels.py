"""Labels in the path, and who may ask."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.asn1 import InfoTypeAndValue, Message, admit, encode_info, oids
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.protection import ProtectionKind, Verified
from opensslcmp.enums import BodyType as B
from opensslcmp.enums import FailureInfo as F
from opensslcmp.enums import PKIStatus
from opensslcmp.errors import Rejected
from opensslcmp.server import IssuingProfile, Peer
from opensslcmp.server.approval import Approval
from opensslcmp.server.names import NamePattern, matches_any
from opensslcmp.server.policy import AllOf, Authorisation, LabelPolicy, Question
from opensslcmp.server.rules import RFC9810, STRICT
from tests.server.device import KEYS, Device, certificate_of, crmf, mac_device, name, poll_request, said, status_of
from tests.server.test_delay import Patient
from tests.server.world import World, other_ca

Make = Callable[..., World]
PROFILES = [
    IssuingProfile(),
    IssuingProfile(name="short", validity_days=1),
    IssuingProfile(name="medium", validity_days=30),
]


def at(world: World, label: str | None = None, reference: str = "device", **peer: Any) -> Device:
    """A device that sends to a label."""
    world.device(reference)

    def handle(der: bytes) -> bytes:
        return world.responder.handle(der, Peer(label=label, **peer))

    return mac_device(handle, world.clock, reference)


def moved(device: Device, other: Device) -> Device:
    """The device in its transaction, at another place."""
    return dataclasses.replace(device, handle=other.handle)


def named(profile: str) -> list[InfoTypeAndValue]:
    return [encode_info(oids.IT_CERT_PROFILE, [profile])]


def days(answer: Message) -> int:
    certificate = x509.load_der_x509_certificate(certificate_of(answer))
    return (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days


def failure(answer: Message) -> F | None:
    return said(answer)[1]


# -- labels ----------------------------------------------------------------------------------------------------------


def test_without_labels_each_means_the_same_as_none(make: Make) -> None:
    assert failure(at(make(), "anything").ask(B.IR, crmf(KEYS[0]))) is None


@pytest.mark.parametrize("kind", [B.IR, B.GENM, B.POLL_REQ])
def test_an_unknown_label_is_a_bad_request_under_the_mac_of_who_asked(make: Make, kind: B) -> None:
    world = make(labels={"factory": LabelPolicy()})
    content: Any = {B.IR: [crmf(KEYS[0])], B.GENM: [], B.POLL_REQ: poll_request()}[kind]
    stranger = dataclasses.replace(at(world, "nonsense"), credential=at(world, None, "stranger").credential)
    answer = stranger.send(kind, content)
    assert said(answer) == (B.ERROR, F.BAD_REQUEST)
    assert status_of(answer).text == ("there is no such label",)
    assert answer.mac is not None
    assert failure(at(world, "factory").ask(B.IR, crmf(KEYS[0]))) is None
    assert failure(at(world).ask(B.IR, crmf(KEYS[0]))) is None


def test_a_label_selects_the_rules(make: Make) -> None:
    world = make(labels={"strict": LabelPolicy(validation=STRICT), "same": LabelPolicy()})
    for label, expected in (("strict", F.BAD_TIME), ("same", None), (None, None)):
        assert failure(at(world, label).ask(B.IR, crmf(KEYS[0]), message_time=None)) is expected
    for label, repeated in (("strict", True), ("same", False)):  # the sender of an answer is a matter of rules too
        device = at(world, label)
        assert (device.ask(B.IR, crmf(KEYS[0])).sender == device.credential.sender_name) is repeated


def test_a_label_selects_issuing_profiles(make: Make) -> None:
    labels = {"factory": LabelPolicy(profiles=("short", "medium")), "all": LabelPolicy()}
    world = make(ca_profiles=PROFILES, labels=labels)
    factory = at(world, "factory")
    assert days(factory.ask(B.IR, crmf(KEYS[0]))) == 1
    assert days(factory.ask(B.IR, crmf(KEYS[0]), general_info=named("medium"))) == 30
    for wrong in ("default", "nonsense"):
        assert failure(factory.ask(B.IR, crmf(KEYS[0]), general_info=named(wrong))) is F.BAD_CERT_TEMPLATE
    assert days(at(world, "all").ask(B.IR, crmf(KEYS[0]), general_info=named("short"))) == 1
    assert days(at(world).ask(B.IR, crmf(KEYS[0]))) == 365


def test_the_profiles_of_a_secret_and_of_a_label_are_taken_together(make: Make) -> None:
    labels = {"factory": LabelPolicy(profiles=("short", "medium")), "none": LabelPolicy(profiles=("short",))}
    world = make(ca_profiles=PROFILES, labels=labels)
    world.ca.add_secret("bound", "secret", profiles=["default", "medium"])
    device = at(world, "factory", "bound")
    assert days(device.ask(B.IR, crmf(KEYS[0]))) == 30
    assert failure(device.ask(B.IR, crmf(KEYS[0]), general_info=named("short"))) is F.NOT_AUTHORIZED
    assert failure(device.ask(B.IR, crmf(KEYS[0]), general_info=named("default"))) is F.BAD_CERT_TEMPLATE
    assert failure(at(world, "none", "bound").ask(B.IR, crmf(KEYS[0]))) is F.BAD_CERT_TEMPLATE
    assert days(at(world, None, "bound").ask(B.IR, crmf(KEYS[0]))) == 365


def test_information_is_about_the_profiles_of_the_label(make: Make) -> None:
    rsa = IssuingProfile(name="rsa", key_types=frozenset(("rsa",)))
    world = make(ca_profiles=[IssuingProfile(), rsa], labels={"rsa": LabelPolicy(profiles=("rsa",))})
    question = [InfoTypeAndValue.make(oids.IT_SIGN_KEY_PAIR_TYPES)]
    device = at(world, "rsa")
    device.begin()
    of_label = device.send(B.GENM, question).content()[0].value_der
    everywhere = at(world).send(B.GENM, question).content()[0].value_der
    assert len(of_label) < len(everywhere)
    device.begin()
    assert failure(device.send(B.GENM, question, general_info=named("default"))) is F.BAD_CERT_TEMPLATE


@pytest.mark.parametrize("granted", [True, False, None])
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_label_may_grant_implicit_confirmation_or_not(make: Make, granted: bool | None, everywhere: bool) -> None:
    world = make(implicit_confirm=everywhere, labels={"x": LabelPolicy(implicit_confirm=granted)})
    answer = at(world, "x").ask(B.IR, crmf(KEYS[0]), implicit=True)
    assert answer.implicit_confirm is (everywhere if granted is None else granted)


def test_a_request_that_waits_is_polled_for_at_the_label_where_it_began(make: Make) -> None:
    labels = {
        "long": LabelPolicy(profiles=("default",)),
        "short": LabelPolicy(profiles=("short",), policy=Authorisation(references=("device",))),
        "closed": LabelPolicy(policy=Authorisation(references=("other",))),
    }
    world = make(ca_profiles=PROFILES, labels=labels)
    world.responder.authority = Patient(world.ca, times=1)
    device = at(world, "long")
    assert status_of(device.ask(B.IR, crmf(KEYS[0]))).status == PKIStatus.WAITING
    answer = moved(device, at(world, "closed")).send(B.POLL_REQ, poll_request())
    assert failure(answer) is F.NOT_AUTHORIZED
    for other in "short", None:  # else what waits for approval here would be issued as it is there
        answer = moved(device, at(world, other)).send(B.POLL_REQ, poll_request())
        assert failure(answer) is F.BAD_REQUEST
        assert status_of(answer).text == ("the transaction began at another label",)
    assert days(device.send(B.POLL_REQ, poll_request())) == 365


def test_who_approves_sees_label_and_profile(make: Make) -> None:
    world = make(ca_profiles=PROFILES, labels={"factory": LabelPolicy()})
    world.responder.authority = Approval(world.ca, world.store)
    answer = at(world, "factory").ask(B.IR, crmf(KEYS[0]), general_info=named("short"))
    assert status_of(answer).status == PKIStatus.WAITING
    (application,) = world.store.applications()
    assert (application.label, application.profile) == ("factory", "short")


# -- who may ask -----------------------------------------------------------------------------------------------------


def test_references_and_subjects_say_who_may_ask(make: Make) -> None:
    certificate, key = other_ca()
    who = Authorisation(references=("dev*",), subjects=(NamePattern("CN=Oth* CA"),))
    world = make(policy=who)
    for reference, expected in (("device", None), ("deaf", F.NOT_AUTHORIZED)):
        assert failure(at(world, None, reference).ask(B.IR, crmf(KEYS[0]))) is expected
    own = certificate_of(at(world).ask(B.IR, crmf(KEYS[1], "CN=Mine"), implicit=True))
    assert failure(at(world).signing(own, KEYS[1]).ask(B.CR, crmf(KEYS[0]))) is F.NOT_AUTHORIZED
    other = world.again(policy=who, trust=Trust([world.ca.certificate, certificate]))
    signed = dataclasses.replace(at(world), handle=other.handle).signing(certificate, key)
    assert failure(signed.ask(B.CR, crmf(KEYS[0]))) is None


def test_who_is_refused_gets_nothing_and_may_not_follow_up_either(make: Make) -> None:
    world = make(labels={"closed": LabelPolicy(policy=Authorisation(references=("other",)))})
    device = at(world)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    answer = moved(device, at(world, "closed")).confirm(certificate)
    assert said(answer) == (B.ERROR, F.NOT_AUTHORIZED)
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    before = world.store.certificates()
    assert said(at(world, "closed").ask(B.IR, crmf(KEYS[1]))) == (B.ERROR, F.NOT_AUTHORIZED)
    assert world.store.certificates() == before


def test_only_registration_authorities_may_ask_where_the_label_says_so(make: Make) -> None:
    label = LabelPolicy(policy=Authorisation(registration_authorities_only=True))
    world = make(labels={"ra": label})
    device = at(world)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0], "CN=ra"), implicit=True))
    responder = world.again(labels={"ra": label}, registration_authorities=[facts(certificate).fingerprint])
    for listed, expected in ((world.responder, F.NOT_AUTHORIZED), (responder, None)):
        ra = device.signing(certificate, KEYS[0])
        ra.handle = lambda der, listed=listed: listed.handle(der, Peer(label="ra"))  # type: ignore[misc]
        assert failure(ra.ask(B.CR, crmf(KEYS[1]))) is expected


def test_who_passes_on_is_no_registration_authority_because_a_rule_is_off(make: Make) -> None:
    label = LabelPolicy(
        policy=Authorisation(registration_authorities_only=True),
        validation=RFC9810.but(off=["nested_is_signed_by_an_ra"]),
    )
    world = make(labels={"ra": label})
    device = at(world)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0], "CN=nobody"), implicit=True))
    inner = at(world, "ra")
    request = inner.build(B.IR, [crmf(KEYS[1])])
    for listed, expected in (((), F.NOT_AUTHORIZED), ([facts(certificate).fingerprint], None)):
        responder = world.again(labels={"ra": label}, registration_authorities=listed)
        outer = device.signing(certificate, KEYS[0])
        outer.handle = lambda der, responder=responder: responder.handle(der, Peer(label="ra"))  # type: ignore[misc]
        nonce = admit(request).sender_nonce
        wrapped = outer.build(B.NESTED, [request], transaction_id=inner.transaction_id, sender_nonce=nonce)
        assert failure(admit(outer.handle(wrapped))) is expected
        inner = at(world, "ra")
        request = inner.build(B.IR, [crmf(KEYS[1])])


def test_a_tls_client_certificate_may_be_needed(make: Make) -> None:
    labels = {
        "tls": LabelPolicy(policy=Authorisation(tls_required=True)),
        "gateway": LabelPolicy(policy=Authorisation(tls_subjects=(NamePattern("CN=Other*"),))),
        "another": LabelPolicy(policy=Authorisation(tls_subjects=(NamePattern("CN=gateway-*"),))),
    }
    world = make(labels=labels)
    shown = other_ca()[0]
    for label, certificate, expected in (
        ("tls", None, F.NOT_AUTHORIZED),
        ("tls", shown, None),
        ("tls", b"garbage", F.NOT_AUTHORIZED),
        ("gateway", None, F.NOT_AUTHORIZED),
        ("gateway", shown, None),
        ("another", shown, F.NOT_AUTHORIZED),
    ):
        device = at(world, label, tls_certificate=certificate)
        assert failure(device.ask(B.IR, crmf(KEYS[0]))) is expected


class Office:
    """A policy of somebody's own: it writes down what it is asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[Question] = []

    def may_ask(self, question: Question) -> None:
        self.asked.append(question)
        if self.error is not None:
            raise self.error


def test_a_policy_is_asked_once_for_each_message_and_told_what_the_request_was(make: Make) -> None:
    office = Office()
    world = make(policy=office)
    device = at(world, "x", address="192.0.2.1")
    device.confirm(certificate_of(device.ask(B.IR, crmf(KEYS[0]))))
    assert [each.body_type for each in office.asked] == [B.IR, B.IR]
    question = office.asked[0]
    assert (question.reference, question.subject, question.tls_subject, question.ra) == ("device", None, None, False)
    assert question.peer == Peer(address="192.0.2.1", label="x")
    assert question.now == world.clock.now
    device.handle(device.last_request)
    assert len(office.asked) == 2  # a retransmission gets what it got


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (Rejected(F.SYSTEM_UNAVAIL, "closed on Sundays"), F.SYSTEM_UNAVAIL, "closed on Sundays"),
        (Rejected(F.NOT_AUTHORIZED), F.NOT_AUTHORIZED, "not authorised to ask here"),
        (KeyError("bug"), F.SYSTEM_FAILURE, "the server failed; try again later"),
    ],
)
def test_what_a_policy_raises_is_told(
    make: Make, caplog: pytest.LogCaptureFixture, error: Exception, expected: F, text: str
) -> None:
    with caplog.at_level(logging.CRITICAL, "opensslcmp.server"):
        answer = at(make(policy=Office(error))).ask(B.IR, crmf(KEYS[0]))
    assert said(answer) == (B.ERROR, expected)
    assert status_of(answer).text == (text,)


def test_the_policy_of_the_server_and_that_of_the_label_must_agree(make: Make) -> None:
    first, second = Office(), Office(Rejected(F.NOT_AUTHORIZED, "no"))
    world = make(policy=AllOf([first]), labels={"x": LabelPolicy(policy=second)})
    assert failure(at(world).ask(B.IR, crmf(KEYS[0]))) is None
    assert failure(at(world, "x").ask(B.IR, crmf(KEYS[0]))) is F.NOT_AUTHORIZED
    assert (len(first.asked), len(second.asked)) == (2, 1)


def test_a_policy_may_be_awaited_where_the_authority_may(make: Make) -> None:
    class Slow:
        async def may_ask(self, question: Question) -> None:
            await asyncio.sleep(0)
            if question.reference != "device":
                raise Rejected(F.NOT_AUTHORIZED, "no")

    world = make(policy=AllOf([Slow()]))

    async def ask(reference: str) -> F | None:
        device = world.device(reference)
        device.begin()
        request = device.build(B.IR, [crmf(KEYS[0])])
        return failure(admit(await world.responder.handle_async(request)))

    assert asyncio.run(ask("device")) is None
    assert asyncio.run(ask("other")) is F.NOT_AUTHORIZED
    assert failure(at(world).ask(B.IR, crmf(KEYS[0]))) is F.SYSTEM_FAILURE  # handle has nobody to await


def test_a_reference_that_is_no_text_is_no_reference() -> None:
    verified = Verified(kind=ProtectionKind.MAC, reference=b"\xff")
    question = Question(requester=verified, body_type=B.IR, peer=Peer())
    assert question.reference is None
    with pytest.raises(Rejected):
        Authorisation(references=("*",)).may_ask(question)


# -- patterns of names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("CN=*,O=Example", "CN=a,O=Example", True),
        ("CN=*,O=Example", "CN=a  b,O=EXAMPLE", True),
        ("CN=*,O=Example", r"CN=a\,O=Example", False),
        ("CN=*,O=Example", "CN=a,OU=x,O=Example", False),
        ("CN=*,O=Example", "O=Example,CN=a", False),
        ("CN=*,O=Example", "O=Example", False),
        ("CN=dev-[0-9]?", "CN=dev-12", True),
        ("CN=dev-[0-9]?", "CN=dev-1", False),
        ("CN=a+OU=b", "OU=b+CN=a", True),
        ("CN=a+OU=b", "CN=a", False),
        ("CN=a", "CN=a+OU=b", False),
        ("CN=a", "O=a", False),
        ("serialNumber=1*", "2.5.4.5=17", True),
        ("*", "CN=a", True),
        ("*", "", False),
        ("CN=*", "", False),
    ],
)
def test_names_are_compared_attribute_by_attribute(pattern: str, subject: str, matches: bool) -> None:
    der = name(subject) if subject else b"0\x00"
    assert NamePattern(pattern).matches(der) is matches
    assert matches_any([NamePattern("CN=no"), NamePattern(pattern)], der) is matches
    assert not matches_any([NamePattern(pattern)], None)


def test_what_is_no_name_matches_nothing() -> None:
    assert not NamePattern("*").matches(b"garbage")


@pytest.mark.parametrize("text", ["", "nonsense", "XX=a", "CN"])
def test_a_pattern_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        NamePattern(text)
