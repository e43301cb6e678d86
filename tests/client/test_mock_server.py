"""Against ``openssl cmp -port``, the mock server of the linked OpenSSL's command."""

from collections.abc import Callable
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from opensslcmp import (
    BadMessage,
    Context,
    Issued,
    PKIStatus,
    ProtectionError,
    ProtectionKind,
    Rejected,
    RevocationReason,
    Session,
    SharedSecret,
)
from opensslcmp.asn1 import admit, oids
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.linked import features
from tests.client.client_peers import Entity, Mock, certify, name

Start = Callable[..., Mock]
Make = Callable[..., Session]


def bodies(mock: Mock) -> list[BodyType]:
    return [admit(request).body_type for request in mock.requests]


def csr(entity: Entity) -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder().subject_name(name("device")).sign(entity.key, hashes.SHA256())


@pytest.mark.parametrize("kind", ["ir", "cr"])
@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize("signature", [False, True], ids=["mac", "signature"])
def test_a_certificate_is_enrolled(
    mock: Start,
    mac_session: Make,
    signer_session: Make,
    issued: Entity,
    kind: Literal["ir", "cr"],
    implicit: bool,
    signature: bool,
) -> None:
    server = mock("-grant_implicitconf", signature=signature) if implicit else mock(signature=signature)
    session = (signer_session if signature else mac_session)(server, implicit_confirm=implicit)
    result = session.enroll("CN=device", issued.key, kind=kind)
    assert result.certificate == issued.certificate
    assert result.protection.kind is (ProtectionKind.SIGNATURE if signature else ProtectionKind.MAC)
    assert result.implicitly_confirmed is implicit
    opening = BodyType.IR if kind == "ir" else BodyType.CR
    assert bodies(server) == ([opening] if implicit else [opening, BodyType.CERT_CONF])


@pytest.fixture(params=[False, True], ids=["mac", "signature"])
def peer(
    request: pytest.FixtureRequest, mock: Start, mac_session: Make, signer_session: Make
) -> Callable[..., tuple[Session, Mock]]:
    """A mock server with these options, and a session with it."""
    signature: bool = request.param

    def make(*options: str, **settings: object) -> tuple[Session, Mock]:
        server = mock(*options, signature=signature)
        return (signer_session if signature else mac_session)(server, **settings), server

    return make


Peer = Callable[..., tuple[Session, Mock]]


def test_a_csr_is_enrolled(peer: Peer, issued: Entity) -> None:
    session, server = peer()
    assert session.enroll_csr(csr(issued)).certificate == issued.certificate
    assert bodies(server) == [BodyType.P10CR, BodyType.CERT_CONF]


def test_a_certificate_is_updated(mock: Start, signer_session: Make, issued: Entity, device: Entity) -> None:
    server = mock(signature=True)
    assert signer_session(server).update(issued.certificate, issued.key).certificate == issued.certificate
    request = admit(server.requests[0])
    assert request.body_type is BodyType.KUR
    control = request.content()[0].cert_req.control(oids.REG_CTRL_OLD_CERT_ID)
    assert control is not None


def test_a_certificate_is_revoked(peer: Peer, issued: Entity) -> None:
    session, server = peer()
    result = session.revoke(issued.certificate, reason=RevocationReason.KEY_COMPROMISE)
    assert result.status is PKIStatus.ACCEPTED
    entry = admit(server.requests[0]).content()[0].crl_entry_details[0]
    assert entry.extn_value == b"\x0a\x01\x01"


def test_a_certificate_is_revoked_by_issuer_and_serial_number(peer: Peer, issued: Entity) -> None:
    session, _ = peer()
    result = session.revoke(issuer=issued.certificate.issuer, serial_number=issued.certificate.serial_number)
    assert result.status is PKIStatus.ACCEPTED


def test_information_is_answered(peer: Peer) -> None:
    session, _ = peer()
    (info,) = session.request_info(oids.IT_SIGN_KEY_PAIR_TYPES)
    assert info.oid == oids.IT_SIGN_KEY_PAIR_TYPES
    assert info.decoded is None


def test_what_comes_with_a_certificate_is_handed_out(
    mock: Start, mac_session: Make, issued: Entity, ca: Entity
) -> None:
    server = mock("-rsp_capubs", "ca.pem", "-rsp_extracerts", "ca.pem")
    result = mac_session(server).enroll("CN=device", issued.key)
    assert result.ca_certificates == (ca.certificate,)
    assert ca.certificate in result.extra_certificates
    assert result.chain == (ca.certificate,)
    assert result.transaction_id == admit(server.requests[0]).transaction_id


@pytest.mark.parametrize("kind", ["ir", "cr", "p10cr", "kur"])
def test_a_waiting_server_is_polled(mock: Start, signer_session: Make, issued: Entity, kind: str) -> None:
    server = mock("-poll_count", "2", "-check_after", "1", signature=True)
    slept: list[float] = []
    session = Session(signer_session(server).context, server, sleep=slept.append)
    if kind == "p10cr":
        result = session.enroll_csr(csr(issued))
    elif kind == "kur":
        result = session.update(issued.certificate, issued.key)
    else:
        result = session.enroll("CN=device", issued.key, kind=kind)  # type: ignore[call-overload]
    assert result.certificate == issued.certificate
    delays = features().level != "3.0"  # since 3.3 the mock server lets the certConf wait too
    assert slept == [1.0] * (1 + delays)
    assert bodies(server)[1:] == [BodyType.POLL_REQ] * 2 + [BodyType.CERT_CONF] + [BodyType.POLL_REQ] * (2 * delays)


def ask(session: Session, kind: str, issued: Entity) -> object:
    match kind:
        case "ir" | "cr":
            return session.enroll("CN=device", issued.key, kind=kind)
        case "p10cr":
            return session.enroll_csr(csr(issued))
        case "rr":
            return session.revoke(issued.certificate)
        case _:
            return session.request_info(oids.IT_CA_CERTS)


@pytest.mark.parametrize("kind", ["ir", "cr", "p10cr", "rr"])
def test_a_refusal_carries_status_failinfo_and_text(peer: Peer, issued: Entity, kind: str) -> None:
    session, _ = peer("-pkistatus", "2", "-failure", "9", "-statusstring", "no such device")
    with pytest.raises(Rejected) as caught:
        ask(session, kind, issued)
    assert caught.value.status is PKIStatus.REJECTION
    assert caught.value.failure is FailureInfo.BAD_POP
    assert caught.value.text == ("no such device",)


@pytest.mark.parametrize("kind", ["ir", "rr", "genm"])
def test_an_error_message_carries_status_failinfo_and_text(peer: Peer, issued: Entity, kind: str) -> None:
    session, _ = peer("-send_error", "-pkistatus", "2", "-failure", "24", "-statusstring", "come back tomorrow")
    with pytest.raises(Rejected) as caught:
        ask(session, kind, issued)
    assert caught.value.status is PKIStatus.REJECTION
    assert caught.value.text


@pytest.mark.parametrize("number", [0, 5, 12, 20, 26])
def test_each_failinfo_bit_arrives(mock: Start, mac_session: Make, issued: Entity, number: int) -> None:
    server = mock("-pkistatus", "2", "-failure", str(number))
    with pytest.raises(Rejected) as caught:
        mac_session(server).enroll("CN=device", issued.key)
    assert caught.value.failures == (FailureInfo(number),)


def test_unprotected_answers_are_not_believed(peer: Peer, issued: Entity) -> None:
    session, _ = peer("-send_unprotected")
    with pytest.raises(ProtectionError, match="not protected"):
        session.enroll("CN=device", issued.key)


@pytest.mark.parametrize("option", [(), ("-send_error",)], ids=["ip", "error"])
def test_unprotected_refusals_are_believed_only_where_allowed(
    mock: Start, mac_session: Make, issued: Entity, option: tuple[str, ...]
) -> None:
    server = mock("-send_unprot_err", "-pkistatus", "2", "-failure", "2", "-statusstring", "sorry", *option)
    with pytest.raises(ProtectionError, match=r"badRequest|rejection"):
        mac_session(server).enroll("CN=device", issued.key)
    with pytest.raises(Rejected):
        mac_session(server, unprotected_errors=True).enroll("CN=device", issued.key)


def test_a_wrong_secret_is_refused_and_the_reason_quoted(mock: Start, issued: Entity) -> None:
    session = Session(Context(credential=SharedSecret("device-17", "wrong")), mock())
    with pytest.raises(ProtectionError, match="unauthenticated"):
        session.enroll("CN=device", issued.key)


def test_an_untrusted_server_is_refused(mock: Start, signer_session: Make, issued: Entity, device: Entity) -> None:
    server = mock(signature=True)
    with pytest.raises(ProtectionError) as caught:
        signer_session(server, trusted=device.certificate).enroll("CN=device", issued.key)
    assert caught.value.failure is FailureInfo.SIGNER_NOT_TRUSTED


def test_a_pinned_server_needs_no_anchor(
    mock: Start, signer_session: Make, server_entity: Entity, issued: Entity
) -> None:
    session = signer_session(mock(signature=True), trusted=(), pinned=server_entity.certificate)
    result = session.enroll("CN=device", issued.key)
    assert result.protection.signer == server_entity.certificate


def test_an_unexpected_sender_is_refused(mock: Start, signer_session: Make, issued: Entity) -> None:
    session = signer_session(mock(signature=True), expected_sender="CN=somebody else")
    with pytest.raises(ProtectionError, match="expected sender"):
        session.enroll("CN=device", issued.key)


def test_a_certificate_for_another_key_is_refused_and_the_server_told(mock: Start, mac_session: Make) -> None:
    server = mock()
    with pytest.raises(BadMessage, match="another key"):
        mac_session(server).enroll("CN=device", generate="ec:P-256")
    status = admit(server.requests[1]).content()[0].status_info
    assert status.status == PKIStatus.REJECTION
    assert status.failures == (FailureInfo.INCORRECT_DATA,)


def test_the_callers_refusal_reaches_the_server(mock: Start, mac_session: Make, issued: Entity) -> None:
    def confirm(offer: Issued) -> None:
        assert offer.certificate == issued.certificate
        raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "not what I asked for")

    server = mock()
    with pytest.raises(Rejected, match="not what I asked for"):
        mac_session(server).enroll("CN=device", issued.key, confirm=confirm)
    status = admit(server.requests[1]).content()[0].status_info
    assert status.failures == (FailureInfo.BAD_CERT_TEMPLATE,)
    assert status.text == ("not what I asked for",)


def test_a_certificate_of_another_ca_is_not_confirmed(
    mock: Start, mac_session: Make, issued: Entity, ca: Entity
) -> None:
    stranger = issued.certificate
    session = mac_session(mock(), certificates_trusted=stranger)
    assert session.enroll("CN=device", issued.key).chain == ()
    other = certify("other", ec.generate_private_key(ec.SECP256R1()), is_ca=True)
    with pytest.raises(ProtectionError):
        mac_session(mock(), certificates_trusted=other.certificate).enroll("CN=device", issued.key)
    good = mac_session(mock(), certificates_trusted=ca.certificate).enroll("CN=device", issued.key)
    assert good.chain == (ca.certificate,)


def test_without_confirmation_nothing_is_confirmed(mock: Start, mac_session: Make, issued: Entity) -> None:
    server = mock()
    mac_session(server, disable_confirm=True).enroll("CN=device", issued.key)
    assert bodies(server) == [BodyType.IR]


@pytest.mark.parametrize("kind", ["ir", "cr", "p10cr", "rr", "genm"])
def test_the_sender_is_the_reference_in_every_body_type(
    mock: Start, mac_session: Make, issued: Entity, kind: str
) -> None:
    server = mock()
    ask(mac_session(server), kind, issued)
    for request in server.requests:
        message = admit(request)
        assert message.sender == name("device-17").public_bytes()
        assert message.sender_kid == b"device-17"
        assert message.message_time is not None
