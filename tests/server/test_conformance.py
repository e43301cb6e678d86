"""The bytes of our answers, and what requests get that are wrong in one thing: as a suite for RFC 9483 would look at them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.asn1 import Variant
from cryptography.hazmat.primitives.asymmetric import rsa

from opensslcmp.asn1 import (
    AttributeTypeAndValue,
    ErrorMsgContent,
    Extension,
    InfoTypeAndValue,
    Message,
    PKIStatusInfo,
    PollReq,
    RevDetails,
    admit,
    der,
    elements,
    encode,
    encode_list,
    oids,
    tlv,
    wrap,
)
from opensslcmp.asn1 import algorithm as identifier
from opensslcmp.context.certificates import facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import ProtectionKind, verify
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.server import IssuingProfile, Pending
from opensslcmp.server.rules import LENIENT, PROFILES, RFC9810, STRICT, ValidationProfile
from tests.server.device import (
    IMPLICIT,
    KEYS,
    Device,
    certificate_of,
    conf,
    crmf,
    csr,
    extension,
    name,
    poll_request,
    revocation,
    said,
    status_of,
)
from tests.server.world import World, other_ca

B, F, S = BodyType, FailureInfo, PKIStatus
EVERY = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
PLAIN = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")


def info(oid: str, value: bytes | None = None) -> list[InfoTypeAndValue]:
    return [InfoTypeAndValue.make(oid, value)]


class Checked:
    """Answers that are looked at from outside to inside before anybody else does."""

    def __init__(self, world: World, device: Device) -> None:
        self.world, self.device = world, device
        self.handle = device.handle
        self.seen: list[Message] = []
        device.handle = self

    def __call__(self, request: bytes) -> bytes:
        answer = self.handle(request)
        self.look(admit(request), admit(answer))
        return answer

    def look(self, asked: Message, answer: Message) -> None:
        ca, header = self.world.ca.certificate, answer.header
        self.seen.append(answer)
        strict = self.world.responder.profile.name == "strict"
        assert header.pvno == asked.header.pvno
        assert answer.recipient == asked.sender
        assert answer.transaction_id == asked.transaction_id
        assert answer.recip_nonce == asked.sender_nonce
        assert len(answer.sender_nonce or b"") == 16
        assert answer.sender_nonce not in {each.sender_nonce for each in self.seen[:-1]}
        assert answer.message_time == datetime.fromtimestamp(self.world.clock.now, UTC)
        assert answer.protection is not None
        assert header.recip_kid is None
        assert header.free_text is None
        # Nothing but what belongs to a certificate in it.
        told = {each.oid for each in header.general_info or ()}
        issued = answer.body_type in {B.IP, B.CP, B.KUP} and any(
            each.certificate is not None for each in answer.content().response
        )
        granted = asked.implicit_confirm and issued
        expected = oids.IT_IMPLICIT_CONFIRM if granted else oids.IT_CONFIRM_WAIT_TIME
        assert told == ({expected} if issued else set())
        chain = [ca, *self.world.ca.chain]
        if asked.mac is not None:
            assert answer.protection_algorithm == asked.protection_algorithm
            assert der(header.protection_alg) == der(asked.header.protection_alg)
            assert answer.sender_kid == asked.sender_kid
            assert verify(answer, secrets=lambda _: b"secret").kind is ProtectionKind.MAC
            assert answer.sender == (name("CN=device") if strict else facts(ca).subject)
            assert set(chain) <= set(answer.extra_certs)
        else:
            assert verify(answer, pinned=ca).certificate == ca
            assert answer.sender == facts(ca).subject
            assert answer.sender_kid == facts(ca).key_id
            assert answer.extra_certs[: len(chain)] == tuple(chain)
        assert len(set(answer.extra_certs)) == len(answer.extra_certs)
        self.look_at_body(asked, answer)

    def look_at_body(self, asked: Message, answer: Message) -> None:
        if answer.body_type is B.PKICONF:
            assert answer.body_der == b"\x05\x00"
            return
        if answer.body_type is B.GENP:
            return
        content = answer.content()
        if answer.body_type is B.ERROR:
            assert content.error_code is None
            self.look_at_status(content.pki_status_info)
        elif answer.body_type is B.RP:
            (status,) = content.status
            self.look_at_status(status)
            assert (content.rev_certs is not None) is (status.status == S.ACCEPTED)
            assert content.crls is None
        elif answer.body_type in {B.IP, B.CP, B.KUP}:
            wanted = [-1] if asked.body_type is B.P10CR else [each.cert_req.cert_req_id for each in asked.content()]
            assert [each.cert_req_id for each in content.response] == wanted
            for each in content.response:
                self.look_at_status(each.status)
                assert (each.certificate is not None) is (each.status.status in {S.ACCEPTED, S.GRANTED_WITH_MODS})
                assert each.rsp_info is None
            issued = any(each.certificate is not None for each in content.response)
            told = answer.body_type is B.IP and asked.mac is not None and issued
            assert (content.ca_pubs is not None) is told

    @staticmethod
    def look_at_status(status: PKIStatusInfo) -> None:
        refused = status.status == S.REJECTION
        assert len(status.failures) == (1 if refused else 0)
        if refused:
            assert status.text
            assert all(each.strip() and each.isprintable() for each in status.text)


@pytest.fixture
def checked(make: Callable[..., World]) -> Callable[..., tuple[World, Device]]:
    """Makes a world, and a device whose answers are checked."""

    def made(profile: ValidationProfile = RFC9810, **options: Any) -> tuple[World, Device]:
        world = make(profile=profile, **options)
        device = world.device()
        Checked(world, device)
        return world, device

    return made


@EVERY
@pytest.mark.parametrize("pvno", [2, 3])
@pytest.mark.parametrize("implicit", [False, True])
def test_every_operation_is_answered_to_the_letter(
    checked: Callable[..., tuple[World, Device]], profile: ValidationProfile, pvno: int, implicit: bool
) -> None:
    _, device = checked(profile)
    fields: dict[str, Any] = {"pvno": pvno, "implicit": implicit}

    def confirmed(who: Device, certificate: bytes, request_id: int = 0) -> bytes:
        if not implicit:
            answer = who.send(B.CERT_CONF, [conf(certificate, request_id=request_id)], pvno=pvno)
            assert answer.body_type is B.PKICONF
        return certificate

    old = confirmed(device, certificate_of(device.ask(B.IR, crmf(KEYS[0]), **fields)))
    confirmed(device, certificate_of(device.ask(B.CR, crmf(KEYS[0]), **fields)))
    confirmed(device, certificate_of(device.ask(B.P10CR, csr(KEYS[0]), **fields)), -1)
    signing = device.signing(old, KEYS[0])
    confirmed(signing, certificate_of(signing.ask(B.CR, crmf(KEYS[1]), **fields)))
    confirmed(signing, certificate_of(signing.ask(B.P10CR, csr(KEYS[1]), **fields)), -1)
    new = confirmed(signing, certificate_of(signing.ask(B.KUR, crmf(KEYS[1], old=old), **fields)))
    updated = device.signing(new, KEYS[1])
    for who in (device, updated):
        who.begin()
        assert who.send(B.GENM, info(oids.IT_CA_CERTS), pvno=pvno).body_type is B.GENP
    updated.begin()
    answer = updated.send(B.RR, [revocation(new)], pvno=pvno)
    (named,) = answer.content().rev_certs
    assert (named.serial_number, named.issuer_der) == (facts(new).serial_number, facts(new).issuer)


@EVERY
def test_every_refusal_is_answered_to_the_letter(
    checked: Callable[..., tuple[World, Device]], profile: ValidationProfile
) -> None:
    _, device = checked(profile)
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    for who in (device, signing):
        assert said(who.ask(B.CR, crmf(KEYS[0], signing_key=KEYS[1]))) == (B.CP, F.BAD_POP)
        assert said(who.ask(B.IR, crmf(KEYS[0], request_id=7))) == (B.IP, F.BAD_REQUEST)
        assert said(who.ask(B.P10CR, csr(KEYS[0], signing_key=KEYS[1]))) == (B.CP, F.BAD_POP)
        assert said(who.ask(B.IR, crmf(KEYS[0]), recip_nonce=os.urandom(16))) == (B.ERROR, F.BAD_RECIPIENT_NONCE)
        late = datetime.fromtimestamp(who.clock() - 3600, UTC)
        assert said(who.ask(B.CR, crmf(KEYS[0]), message_time=late)) == (B.ERROR, F.BAD_TIME)
        who.begin()
        assert said(who.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.BAD_REQUEST)
    assert said(device.ask(B.KUR, crmf(KEYS[0]))) == (B.ERROR, F.WRONG_INTEGRITY)
    assert said(signing.ask(B.KUR, crmf(KEYS[0]))) == (B.KUP, F.BAD_CERT_TEMPLATE)
    signing.begin()
    assert said(signing.send(B.RR, [revocation(b"" or device.enroll(KEYS[1], "CN=other"))])) == (B.RP, F.NOT_AUTHORIZED)


def test_the_chain_follows_the_protection_certificate(checked: Callable[..., tuple[World, Device]]) -> None:
    world, device = checked(ca_chain=[other_ca()[0]])
    answer = device.ask(B.IR, crmf(KEYS[0]), implicit=True)
    assert [der(each) for each in answer.content().ca_pubs] == [other_ca()[0]]
    answer = device.signing(certificate_of(answer), KEYS[0]).ask(B.CR, crmf(KEYS[1]))
    assert answer.extra_certs == (world.ca.certificate, other_ca()[0])


def test_what_waits_is_answered_to_the_letter(checked: Callable[..., tuple[World, Device]]) -> None:
    world, device = checked()

    class Slow:
        certificate = world.ca.certificate

        def issue(self, request: Any) -> Pending:
            return Pending(check_after_seconds=9, text="later")

    look = device.handle
    assert isinstance(look, Checked)
    look.handle = world.again(Slow()).handle
    answer = device.ask(B.IR, crmf(KEYS[0]), implicit=True)
    (response,) = answer.content().response
    assert (response.status.status, response.status.failures, response.certificate) == (S.WAITING, (), None)
    report = device.send(B.POLL_REQ, poll_request())
    assert [(each.cert_req_id, each.check_after, each.reason) for each in report.content()] == [(0, 9, ["later"])]


# -- requests that are wrong in one thing ---------------------------------------------------------------------------


def raw(device: Device, body_type: BodyType, body: bytes, **fields: Any) -> Message:
    device.begin()
    return device.send(body_type, body, **fields)


@pytest.mark.parametrize("body_type", [B.IR, B.CR, B.KUR, B.RR, B.POLL_REQ, B.NESTED])
def test_an_empty_list_asks_for_nothing(checked: Callable[..., tuple[World, Device]], body_type: BodyType) -> None:
    world, device = checked()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    listed = [facts(signing.credential.certificates[0]).fingerprint]
    signing.handle = world.again(registration_authorities=listed).handle
    answer = raw(signing, body_type, b"\x30\x00")
    expected = {F.BAD_DATA_FORMAT, F.BAD_REQUEST}
    assert said(answer)[0] is B.ERROR
    assert said(answer)[1] in expected


@pytest.mark.parametrize(
    "broken",
    [
        lambda der: der + b"\x00",
        lambda der: der[:-1],
        lambda der: b"\x30\x80" + der[2 + (der[1] & 0x7F if der[1] > 0x7F else 0) :] + b"\x00\x00",
        lambda der: b"\x31" + der[1:],
        lambda der: b"",
        lambda der: b"\x30\x00",
    ],
    ids=["trailing", "truncated", "indefinite", "another tag", "nothing", "empty"],
)
def test_what_is_no_der_is_bad_data_under_a_signature(world: World, broken: Callable[[bytes], bytes]) -> None:
    device = world.device()
    answer = admit(world.responder.handle(broken(device.build(B.IR, [crmf(KEYS[0])]))))
    assert said(answer) == (B.ERROR, F.BAD_DATA_FORMAT)
    assert verify(answer, pinned=world.ca.certificate).kind is ProtectionKind.SIGNATURE
    assert status_of(answer).text


@pytest.mark.parametrize("number", [-1, -5, 1, 2**40])
def test_a_cert_req_id_that_does_not_count_from_zero_is_refused_and_echoed(world: World, number: int) -> None:
    answer = world.device().ask(B.IR, crmf(KEYS[0], request_id=number))
    assert said(answer) == (B.IP, F.BAD_REQUEST)
    assert answer.content().response[0].cert_req_id == number


@pytest.mark.parametrize("number", [-1, -5, 1, 2**40])
def test_a_status_of_a_certificate_that_was_not_asked_for_is_refused(world: World, number: int) -> None:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    assert said(device.send(B.CERT_CONF, [conf(certificate, request_id=number)])) == (B.ERROR, F.BAD_CERT_ID)
    assert said(device.confirm(certificate)) == (B.PKICONF, None)


@EVERY
@pytest.mark.parametrize("critical", [True, False])
def test_an_extension_that_nobody_knows_is_not_accepted(
    make: Callable[..., World], profile: ValidationProfile, critical: bool
) -> None:
    unknown = Extension(extn_id=PLAIN, critical=critical, extn_value=b"\x05\x00")
    answer = make(profile=profile).device().ask(B.IR, crmf(KEYS[0], extensions=[unknown]))
    assert said(answer) == (B.IP, F.UNACCEPTED_EXTENSION)


def test_an_info_of_the_header_that_nobody_knows_is_passed_over(world: World) -> None:
    unknown = InfoTypeAndValue.make(PLAIN.dotted_string, b"\x05\x00")
    assert said(world.device().ask(B.IR, crmf(KEYS[0]), general_info=[unknown])) == (B.IP, None)


@pytest.mark.parametrize(
    "item", [IMPLICIT, InfoTypeAndValue.make(oids.IT_CERT_PROFILE, encode_list([encode("default")]))]
)
def test_an_info_of_the_header_is_there_once(world: World, item: InfoTypeAndValue) -> None:
    assert said(world.device().ask(B.IR, crmf(KEYS[0]), general_info=[item, item])) == (B.ERROR, F.BAD_REQUEST)
    lenient = world.device(handle=world.again(profile=LENIENT).handle)
    assert said(lenient.ask(B.IR, crmf(KEYS[0]), general_info=[item, item]))[0] is B.IP


def test_a_confirmation_by_a_hash_that_nobody_knows_is_a_bad_algorithm(world: World) -> None:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0]), pvno=3))
    status = conf(certificate, hash_alg=identifier(PLAIN.dotted_string))
    assert said(device.send(B.CERT_CONF, [status], pvno=3)) == (B.ERROR, F.BAD_ALG)
    assert said(device.confirm(certificate, pvno=3)) == (B.PKICONF, None)


@pytest.mark.parametrize("reason", [None, RevocationReason.UNSPECIFIED])
def test_a_revocation_without_a_reason_is_for_the_field_only(
    make: Callable[..., World], reason: RevocationReason | None
) -> None:
    for profile in PROFILES.values():
        world = make(profile=profile)
        device = world.device()
        certificate = device.enroll(KEYS[0])
        signing = device.signing(certificate, KEYS[0])
        signing.begin()
        expected = F.BAD_REQUEST if reason is None and profile is STRICT else None
        assert said(signing.send(B.RR, [revocation(certificate, reason)])) == (B.RP, expected)


def test_an_rr_may_say_more_than_a_reason(world: World) -> None:
    device = world.device()
    certificate = device.enroll(KEYS[0])
    more = Extension(extn_id=x509.ObjectIdentifier("2.5.29.24"), extn_value=b"\x18\x0f20300101000000Z")
    details = revocation(certificate)
    details = RevDetails(
        cert_details=details.cert_details, crl_entry_details=[*(details.crl_entry_details or []), more]
    )
    signing = device.signing(certificate, KEYS[0])
    signing.begin()
    assert said(signing.send(B.RR, [details])) == (B.RP, None)


def test_a_control_that_nobody_knows_is_passed_over(world: World) -> None:
    request = crmf(KEYS[0], popo="none")
    control = AttributeTypeAndValue(type=PLAIN, value=tlv(b"\x05\x00"))
    wanted = dataclasses.replace(request.cert_req, controls=[control])
    algorithm = KEYS[0].signature_algorithm()
    from opensslcmp.asn1 import AlgorithmIdentifier, BitString, POPOSigningKey, decode

    proof = POPOSigningKey(
        algorithm_identifier=decode(AlgorithmIdentifier, algorithm),
        signature=BitString(KEYS[0].sign(encode(wanted), algorithm), 0),
    )
    signed = dataclasses.replace(request, cert_req=wanted, popo=Variant(proof, "signature"))
    assert said(world.device().ask(B.IR, signed)) == (B.IP, None)


def pkcs10(*attributes: bytes, subject: bytes = name("CN=device")) -> bytes:
    from opensslcmp.asn1 import attach_signature

    told = wrap(0xA0, b"".join(attributes))
    inside = wrap(0x30, encode(0) + subject + KEYS[0].public_key_der + told)
    algorithm = KEYS[0].signature_algorithm()
    return attach_signature(inside, algorithm, KEYS[0].sign(inside, algorithm))


def attribute(oid: str, *values: bytes) -> bytes:
    return wrap(0x30, encode(x509.ObjectIdentifier(oid)) + wrap(0x31, b"".join(values)))


REQUESTED = "1.2.840.113549.1.9.14"
NAMES = encode_list([encode(extension(x509.SubjectAlternativeName([x509.DNSName("a.example")])))])


@pytest.mark.parametrize(
    ("content", "failure"),
    [
        (pkcs10(attribute("1.2.840.113549.1.9.7", encode("challenge"))), None),
        (pkcs10(attribute(REQUESTED, NAMES)), None),
        (pkcs10(attribute(REQUESTED, NAMES), subject=b"\x30\x00"), None),
        (pkcs10(subject=b"\x30\x00"), F.BAD_CERT_TEMPLATE),
        (pkcs10(attribute(REQUESTED, NAMES), attribute(REQUESTED, NAMES)), F.BAD_CERT_TEMPLATE),
    ],
    ids=["challenge", "names", "names alone", "no names", "names twice"],
)
def test_attributes_of_a_pkcs10_request(world: World, content: bytes, failure: FailureInfo | None) -> None:
    answer = world.device().ask(B.P10CR, content)
    assert said(answer) == (B.CP, failure)
    assert answer.content().response[0].cert_req_id == -1


@pytest.mark.parametrize(
    "content",
    [pkcs10(attribute(REQUESTED)), pkcs10(attribute(REQUESTED, NAMES, NAMES)), pkcs10(b"\x02\x01\x00"), b"\x30\x00"],
)
def test_a_pkcs10_request_that_does_not_decode_is_bad_data(world: World, content: bytes) -> None:
    assert said(world.device().ask(B.P10CR, content)) == (B.ERROR, F.BAD_DATA_FORMAT)


def signed_by(world: World, **fields: Any) -> tuple[Device, Message]:
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    return signing, signing.ask(B.CR, crmf(KEYS[1]), **fields)


@EVERY
def test_sender_and_sender_kid_of_a_signer_are_compared(make: Callable[..., World], profile: ValidationProfile) -> None:
    _, answer = signed_by(make(profile=profile), sender=name("CN=somebody"))
    assert said(answer) == (B.ERROR, F.BAD_MESSAGE_CHECK)


@EVERY
def test_an_expired_signer_is_not_trusted(make: Callable[..., World], profile: ValidationProfile) -> None:
    world = make(profile=profile, ca_profiles=[IssuingProfile(validity_days=1)])
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    world.clock.now += 86400 + 60
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.SIGNER_NOT_TRUSTED)


@EVERY
def test_a_protection_with_one_bit_flipped_is_a_bad_check(
    make: Callable[..., World], profile: ValidationProfile
) -> None:
    world = make(profile=profile)
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    device.begin()
    for who in (device, signing):
        good = who.build(B.IR, [crmf(KEYS[1])])
        bits = admit(good).protection or b""
        bad = good.replace(bits, bits[:-1] + bytes((bits[-1] ^ 1,)))
        answer = admit(world.responder.handle(bad))
        assert said(answer) == (B.ERROR, F.BAD_MESSAGE_CHECK)
        assert verify(answer, pinned=world.ca.certificate).kind is ProtectionKind.SIGNATURE
        # It was nobody, so the one whose name it used is not disturbed.
        assert said(admit(world.responder.handle(good))) == (B.IP, None)


@EVERY
@pytest.mark.parametrize("kind", [B.IR, B.CR, B.P10CR, B.KUR, B.RR, B.GENM, B.CERT_CONF, B.POLL_REQ, B.NESTED])
def test_what_is_not_protected_is_wrong_integrity_whatever_it_is(
    make: Callable[..., World], profile: ValidationProfile, kind: BodyType
) -> None:
    world = make(profile=profile)
    device = world.device()
    contents: dict[BodyType, Any] = {
        B.P10CR: csr(KEYS[0]),
        B.RR: [revocation(world.ca.certificate)],
        B.GENM: info(oids.IT_CA_CERTS),
        B.CERT_CONF: [conf(world.ca.certificate)],
        B.POLL_REQ: [PollReq(cert_req_id=0)],
        B.NESTED: [device.build(B.IR, [crmf(KEYS[0])])],
    }
    answer = device.send(kind, contents.get(kind, [crmf(KEYS[0])]), protected=False)
    assert said(answer) == (B.ERROR, F.WRONG_INTEGRITY)
    assert verify(answer, pinned=world.ca.certificate).kind is ProtectionKind.SIGNATURE
    assert world.store.certificates() == 0


@pytest.mark.parametrize(
    ("away", "failure"), [(-301, F.BAD_TIME), (-299, None), (299, None), (301, F.BAD_TIME), (-86400, F.BAD_TIME)]
)
def test_the_window_of_the_time_is_the_same_on_both_sides(
    world: World, away: float, failure: FailureInfo | None
) -> None:
    moment = datetime.fromtimestamp(world.clock.now, UTC) + timedelta(seconds=away)
    answer = world.device().ask(B.IR, crmf(KEYS[0]), message_time=moment)
    assert said(answer) == (B.ERROR if failure else B.IP, failure)


@EVERY
def test_messages_out_of_order_get_nothing(make: Callable[..., World], profile: ValidationProfile) -> None:
    device = make(profile=profile).device()
    error = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(S.REJECTION, "no", failure=F.BAD_REQUEST))
    for kind, content in ((B.CERT_CONF, []), (B.POLL_REQ, poll_request()), (B.ERROR, error)):
        device.begin()
        fields = {"recip_nonce": os.urandom(16)}
        assert said(device.send(kind, content, **fields)) == (B.ERROR, F.BAD_REQUEST)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    assert said(device.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.BAD_REQUEST)
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    assert said(device.confirm(certificate)) == (B.ERROR, F.CERT_CONFIRMED)
    assert said(device.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.BAD_REQUEST)


@pytest.mark.parametrize("after", ["at once", "confirmed", "refused", "revoked"])
def test_a_transaction_id_is_in_use_also_when_its_transaction_is_over(world: World, after: str) -> None:
    device = world.device()
    popo = "none" if after == "refused" else "signature"
    answer = device.ask(B.IR, crmf(KEYS[0], popo=popo))
    if after == "confirmed":
        device.confirm(certificate_of(answer))
    elif after == "revoked":
        device.send(B.CERT_CONF, [])
    again = device.ask(B.IR, crmf(KEYS[1]), transaction_id=device.transaction_id, recip_nonce=None)
    assert said(again) == (B.ERROR, F.TRANSACTION_ID_IN_USE)


@pytest.mark.parametrize("version", [0, 1, 4, 99])
def test_another_version_is_unsupported_and_answered_in_ours(world: World, version: int) -> None:
    answer = world.device().ask(B.IR, crmf(KEYS[0]), pvno=version)
    assert said(answer) == (B.ERROR, F.UNSUPPORTED_VERSION)
    assert answer.header.pvno == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", 0), ("version", 1), ("serial_number", 1), ("signing_alg", identifier("1.2.840.113549.1.1.11"))],
)
def test_a_template_that_says_what_is_ours_is_a_bad_template(world: World, field: str, value: Any) -> None:
    assert said(world.device().ask(B.IR, crmf(KEYS[0], **{field: value}))) == (B.IP, F.BAD_CERT_TEMPLATE)
    assert said(world.device().ask(B.IR, crmf(KEYS[0], version=2))) == (B.IP, None)


def test_an_issuer_in_the_template_is_ours_or_none(world: World) -> None:
    device = world.device()
    assert said(device.ask(B.IR, crmf(KEYS[0], issuer=tlv(name("CN=Test CA"))))) == (B.IP, None)
    assert said(device.ask(B.IR, crmf(KEYS[0], issuer=tlv(b"\x30\x00")))) == (B.IP, None)
    assert said(device.ask(B.IR, crmf(KEYS[0], issuer=tlv(name("CN=Else"))))) == (B.IP, F.BAD_CERT_TEMPLATE)


def test_small_and_huge_rsa_keys_are_bad_templates(world: World) -> None:
    key = PrivateKey.load(rsa.generate_private_key(65537, 1024))
    assert said(world.device().ask(B.IR, crmf(key))) == (B.IP, F.BAD_CERT_TEMPLATE)
    assert said(world.device().ask(B.P10CR, csr(key))) == (B.CP, F.BAD_CERT_TEMPLATE)


def test_a_proof_of_possession_by_another_algorithm_is_none(world: World) -> None:
    request = crmf(KEYS[0], signing_key=PrivateKey.generate("ed25519"))
    assert said(world.device().ask(B.IR, request)) == (B.IP, F.BAD_POP)


def test_the_body_of_one_type_under_the_tag_of_another_is_bad_data(world: World) -> None:
    device = world.device()
    body = encode_list([encode(crmf(KEYS[0]))])
    for kind in (B.P10CR, B.RR, B.CERT_CONF, B.GENM, B.POLL_REQ):
        device.begin()
        answer = device.send(kind, body)
        assert said(answer)[0] is B.ERROR
        assert said(answer)[1] in {F.BAD_DATA_FORMAT, F.WRONG_INTEGRITY, F.BAD_REQUEST}


def test_what_changed_is_told_in_words_with_granted_with_mods(world: World) -> None:
    asked = [extension(x509.AuthorityKeyIdentifier(b"k" * 20, None, None))]
    answer = world.device().ask(B.IR, crmf(KEYS[0], extensions=asked))
    status = answer.content().response[0].status
    assert (status.status, status.failures) == (S.GRANTED_WITH_MODS, ())
    assert status.text == ("authorityKeyIdentifier is the CA's",)


@pytest.mark.parametrize("subject", [None, b"\x30\x00"])
def test_an_update_that_names_nobody_is_for_who_signed_it(world: World, subject: bytes | None) -> None:
    device = world.device()
    names = extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]))
    old = device.enroll(KEYS[0], extensions=[names])
    new = certificate_of(device.signing(old, KEYS[0]).ask(B.KUR, crmf(KEYS[1], subject)))
    assert facts(new).subject == facts(old).subject
    certificate = x509.load_der_x509_certificate(new)
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == names_of(old)


def names_of(certificate: bytes) -> x509.SubjectAlternativeName:
    found = x509.load_der_x509_certificate(certificate).extensions
    return found.get_extension_for_class(x509.SubjectAlternativeName).value


def test_the_certificate_we_give_is_what_was_asked_for_in_der(world: World) -> None:
    answer = world.device().ask(B.IR, crmf(KEYS[0], "CN=device,O=Example"))
    certificate = x509.load_der_x509_certificate(certificate_of(answer))
    assert certificate.version is x509.Version.v3
    assert certificate.subject.public_bytes() == name("CN=device,O=Example")
    assert certificate.serial_number > 0
    assert len(list(elements(certificate_of(answer)))) == 3
