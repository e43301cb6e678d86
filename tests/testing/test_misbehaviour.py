"""The CA for tests: right by itself, wrong as it is told, in the process and over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from cryptography import x509

from opensslcmp import (
    BadMessage,
    BodyType,
    Context,
    FailureInfo,
    Pending,
    PKIStatus,
    ProtectionError,
    Rejected,
    RevocationReason,
    Session,
    SharedSecret,
    TimedOut,
    TransportError,
    admit,
)
from opensslcmp.asn1 import encode_body
from opensslcmp.server import IssuingProfile
from opensslcmp.testing import (
    CA,
    Corrupt,
    Delay,
    Drop,
    ErrorMessage,
    Fault,
    Garbage,
    HTTPStatus,
    Impostor,
    Misissue,
    Reject,
    Server,
    Truncate,
    Unprotected,
    Wait,
)

Ways = Callable[..., Session]


@pytest.fixture(params=["in process", "http"])
def session_of(request: pytest.FixtureRequest, cmp_ca: CA) -> Ways:
    """Makes sessions with the CA, either way."""
    if request.param == "in process":
        return cmp_ca.session
    server: Server = request.getfixturevalue("cmp_server")
    return server.session


def enroll(session: Any, **options: Any) -> Any:
    return session.enroll("CN=device", generate="ec:P-256", **options)


def kinds(ca: CA) -> list[tuple[str | None, str | None]]:
    def text(kind: BodyType | None) -> str | None:
        return None if kind is None else kind.text

    return [(text(each.asked), text(each.answered)) for each in ca.exchanges]


# -- right ---------------------------------------------------------------------------------------------------------


def test_a_certificate_is_issued_updated_revoked_and_refused_then(session_of: Ways, cmp_ca: CA) -> None:
    issued = enroll(session_of())
    assert issued.certificate.issuer == cmp_ca.certificate.subject
    assert kinds(cmp_ca) == [("ir", "ip"), ("certConf", "pkiconf")]
    signer = cmp_ca.issue("CN=signer")
    renewed = session_of(signer).update(generate="ec:P-256")
    assert renewed.certificate.subject.rfc4514_string() == "CN=signer"
    cmp_ca.revoke(renewed.certificate, RevocationReason.KEY_COMPROMISE)
    again = cmp_ca.issue("CN=other")
    session_of(again).revoke()
    serials = {each.serial_number for each in cmp_ca.crl()}
    assert serials == {renewed.certificate.serial_number, again.certificate.serial_number}
    with pytest.raises(Rejected) as refused:
        session_of(again).update(generate="ec:P-256")
    assert refused.value.failure is FailureInfo.CERT_REVOKED


def test_the_secret_of_a_reference_stays_the_same() -> None:
    with CA() as ca:
        assert ca.secret("a") == ca.secret("a") != ca.secret("b")


def test_a_wrong_secret_is_refused(cmp_ca: CA) -> None:
    with pytest.raises((Rejected, ProtectionError)):
        enroll(cmp_ca.session(SharedSecret("device", "not the secret")))


def test_profiles_rules_and_options_of_the_responder_are_taken() -> None:
    profile = IssuingProfile(validity_days=3.0)
    with CA("CN=Other", profiles=[profile], rules="strict", implicit_confirm=False) as ca:
        issued = enroll(ca.session(), implicit_confirm=True)
        assert not issued.implicitly_confirmed
        certificate = issued.certificate
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 3
        assert certificate.issuer.rfc4514_string() == "CN=Other"
        assert "Other" in repr(ca)


@pytest.mark.parametrize("key", ["rsa:2048", "ed25519", "ec:P-384"])
def test_the_key_of_the_ca_is_of_any_kind(key: str) -> None:
    with CA(key=key) as ca:
        assert enroll(ca.session()).status is PKIStatus.ACCEPTED
        with ca.misbehave(Corrupt("recipNonce")), pytest.raises(BadMessage):
            ca.session(ca.issue()).update(generate="ec:P-256")


def test_a_clock_of_the_tests_own_may_go_wrong() -> None:
    now = time.time()
    with CA(clock=lambda: now) as ca:
        signer = ca.issue()
        now += 86400
        with pytest.raises(Rejected) as refused:
            ca.session(signer).ca_certificates()
        assert refused.value.failure is FailureInfo.BAD_TIME


def test_many_threads_ask_one_ca(cmp_ca: CA) -> None:
    found: list[x509.Certificate] = []
    threads = [threading.Thread(target=lambda: found.append(enroll(cmp_ca.session()).certificate)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.serial_number for each in found}) == 8
    assert len(cmp_ca.exchanges) == 16


def test_issuing_is_neither_recorded_nor_disturbed(cmp_ca: CA) -> None:
    with cmp_ca.misbehave(Reject(FailureInfo.BAD_POP)):
        assert cmp_ca.issue("CN=tls", subject_alternative_names=[x509.DNSName("localhost")]).certificate
    assert cmp_ca.exchanges == []


# -- wrong where it decides ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", FailureInfo)
def test_any_fail_info_is_what_the_client_is_told(cmp_session: Session, cmp_ca: CA, failure: FailureInfo) -> None:
    with cmp_ca.misbehave(Reject(failure, "no")) as misbehaviour, pytest.raises(Rejected) as refused:
        enroll(cmp_session)
    assert (refused.value.failure, refused.value.text) == (failure, ("no",))
    assert misbehaviour.seen == 1
    assert cmp_ca.exchanges[0].answered is BodyType.IP
    assert enroll(cmp_session).status is PKIStatus.ACCEPTED


def test_revocations_and_questions_are_refused_too(session_of: Ways, cmp_ca: CA) -> None:
    session = session_of(cmp_ca.issue())
    cmp_ca.misbehave(Reject(FailureInfo.SYSTEM_FAILURE))
    with pytest.raises(Rejected):
        session.revoke()
    with pytest.raises(Rejected):
        session.ca_certificates()
    cmp_ca.behave()
    assert session.ca_certificates() == (cmp_ca.certificate,)


def test_on_and_times_say_which_requests_it_is_about(cmp_session: Session, cmp_ca: CA) -> None:
    cmp_ca.misbehave(Reject(FailureInfo.BAD_REQUEST), on=BodyType.CR, times=1)
    assert enroll(cmp_session)
    with pytest.raises(Rejected):
        enroll(cmp_session, kind="cr")
    assert enroll(cmp_session, kind="cr")


def test_waiting_ends_after_so_many_polls(session_of: Ways, cmp_ca: CA) -> None:
    with cmp_ca.misbehave(Wait(polls=2)):
        assert enroll(session_of()).status is PKIStatus.ACCEPTED
    polls = [("pollReq", "pollRep")] * 2
    assert kinds(cmp_ca) == [("ir", "ip"), *polls, ("pollReq", "ip"), ("certConf", "pkiconf")]


def test_waiting_for_ever_is_what_the_client_makes_of_it(cmp_session: Session, cmp_ca: CA) -> None:
    cmp_ca.misbehave(Wait(polls=None, check_after_seconds=3), times=1)
    pending = enroll(cmp_session, wait=False)
    assert isinstance(pending, Pending)
    for _ in range(3):
        pending = pending.check()
        assert isinstance(pending, Pending)
        assert pending.check_after_seconds == 3
    with cmp_ca.misbehave(Wait()):
        waits = cmp_ca.session(cmp_ca.issue()).revoke(wait=False)
    assert isinstance(waits, Pending)


def test_a_rejection_ends_the_waiting(cmp_session: Session, cmp_ca: CA) -> None:
    with cmp_ca.misbehave(Wait(polls=0)):
        pending = enroll(cmp_session, wait=False)
    with cmp_ca.misbehave(Reject(FailureInfo.NOT_AUTHORIZED)), pytest.raises(Rejected):
        pending.check()


@pytest.mark.parametrize("what", ["key", "subject", "expired"])
def test_a_wrong_certificate_is_refused_by_our_client(cmp_session: Session, cmp_ca: CA, what: Any) -> None:
    with cmp_ca.misbehave(Misissue(what)), pytest.raises((Rejected, BadMessage)):
        enroll(cmp_session)
    answer = admit(cmp_ca.exchanges[0].answer or b"").content().response[0]
    assert answer.status.status == PKIStatus.ACCEPTED
    certificate = x509.load_der_x509_certificate(answer.certificate)
    assert (certificate.subject.rfc4514_string() == "CN=device") is (what != "subject")
    # The server is told why, and revokes it.
    refused = admit(cmp_ca.exchanges[1].request).content()[0].status_info
    assert refused.status == PKIStatus.REJECTION
    assert [each.serial_number for each in cmp_ca.crl()] == [certificate.serial_number] or what == "expired"


# -- wrong on the wire ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True], ids=["mac", "signature"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Corrupt("transactionID"), BadMessage),
        (Corrupt("recipNonce"), BadMessage),
        (Corrupt("bodyType"), BadMessage),
        (Corrupt("pvno"), BadMessage),
        (Corrupt("protection"), ProtectionError),
        (Corrupt("body"), (ProtectionError, BadMessage)),
        (Unprotected(), ProtectionError),
        (Impostor(), ProtectionError),
        (Garbage(), BadMessage),
        (Truncate(), BadMessage),
        (Truncate(20), BadMessage),
        (ErrorMessage(FailureInfo.SYSTEM_UNAVAIL), Rejected),
    ],
    ids=str,
)
def test_our_client_takes_nothing_that_is_wrong(
    session_of: Ways, cmp_ca: CA, signed: bool, fault: Fault, error: Any
) -> None:
    session = session_of(cmp_ca.issue() if signed else None)
    with cmp_ca.misbehave(fault), pytest.raises(error):
        enroll(session, kind="cr")
    assert enroll(session, kind="cr")


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("senderNonce", lambda answer: answer.sender_nonce is None),
        ("sender", lambda answer: b"somebody else" in answer.sender),
        ("messageTime", lambda answer: time.time() - answer.message_time.timestamp() > 86400 * 364),
    ],
)
def test_what_our_client_does_not_look_at_is_wrong_all_the_same(
    cmp_ca: CA, what: Any, wrong: Callable[[Any], bool]
) -> None:
    sent = cmp_ca.session().request_info
    with cmp_ca.misbehave(Corrupt(what)):
        try:
            sent("1.3.6.1.5.5.7.4.17")
        except BadMessage:
            assert what == "senderNonce"
    assert wrong(admit(cmp_ca.exchanges[0].answer or b""))


def test_only_the_altered_field_is_wrong(cmp_session: Session, cmp_ca: CA) -> None:
    with cmp_ca.misbehave(ErrorMessage(FailureInfo.BAD_TIME)), pytest.raises(Rejected):
        enroll(cmp_session)
    request, answer = (admit(each or b"") for each in (cmp_ca.exchanges[0].request, cmp_ca.exchanges[0].answer))
    assert answer.recip_nonce == request.sender_nonce
    assert answer.mac == request.mac  # RFC 9810: the answer's MAC is made as the request's
    assert answer.body_der == encode_body(BodyType.ERROR, answer.content())


def test_a_dropped_answer_was_given(session_of: Ways, cmp_ca: CA) -> None:
    session = session_of()
    with cmp_ca.misbehave(Drop(), on=BodyType.CERT_CONF), pytest.raises(TransportError):
        enroll(session)
    assert kinds(cmp_ca)[:2] == [("ir", "ip"), ("certConf", None)]


def test_a_dropped_request_never_arrived(cmp_session: Session, cmp_ca: CA) -> None:
    with cmp_ca.misbehave(Drop(arrives=False)), pytest.raises(TransportError):
        enroll(cmp_session)
    assert cmp_ca.responder.store.open_transactions(b"mac:device") == (0, 0)


def test_a_slow_answer_is_an_answer_or_a_timeout(session_of: Ways, cmp_ca: CA) -> None:
    began = time.monotonic()
    with cmp_ca.misbehave(Delay(0.05), times=1):
        assert enroll(session_of())
    assert time.monotonic() - began >= 0.05
    with cmp_ca.misbehave(Delay(60)), pytest.raises(TimedOut):
        enroll(session_of(message_timeout_seconds=0.1))
    assert time.monotonic() - began < 30


def test_an_http_status_reaches_the_client(session_of: Ways, cmp_ca: CA) -> None:
    with cmp_ca.misbehave(HTTPStatus(503, retry_after_seconds=7)), pytest.raises(TransportError) as none:
        enroll(session_of())
    assert (none.value.http_status, none.value.retry_after_seconds) == (503, 7)
    assert cmp_ca.exchanges[0].answered is None


def test_faults_apply_one_after_the_other(cmp_session: Session, cmp_ca: CA) -> None:
    cmp_ca.misbehave(ErrorMessage(FailureInfo.BAD_TIME))
    cmp_ca.misbehave(Corrupt("recipNonce"))
    with pytest.raises(BadMessage):
        enroll(cmp_session)
    assert cmp_ca.exchanges[0].answered is BodyType.ERROR


def test_a_fault_of_ones_own() -> None:
    class Shout(Fault):
        def reply(self, reply: Any, ca: CA) -> Any:
            heard.append(reply.request.body_type)
            return reply

    heard: list[BodyType] = []
    with CA() as ca, ca.misbehave(Shout()):
        enroll(ca.session())
    assert heard == [BodyType.IR, BodyType.CERT_CONF]


# -- asynchronous, and other programs ------------------------------------------------------------------------------


@pytest.mark.parametrize("over_http", [False, True])
def test_an_async_session_sees_the_same(cmp_ca: CA, cmp_server: Server, over_http: bool) -> None:
    async def run() -> None:
        async with (cmp_server if over_http else cmp_ca).async_session() as session:
            with cmp_ca.misbehave(Wait(1)), cmp_ca.misbehave(Delay(0.02)):
                assert (await enroll(session)).status is PKIStatus.ACCEPTED
            with cmp_ca.misbehave(Drop()), pytest.raises(TransportError):
                await enroll(session)

    anyio.run(run)


def test_https_with_a_certificate_of_the_ca(cmp_ca: CA, tmp_path: Any) -> None:
    import ssl

    from cryptography.hazmat.primitives.serialization import Encoding

    from opensslcmp import TLS

    signer = cmp_ca.issue("CN=localhost", subject_alternative_names=[x509.DNSName("localhost")])
    (tmp_path / "tls.pem").write_bytes(signer.certificate.public_bytes(Encoding.PEM) + signer.key.to_pem())
    (tmp_path / "ca.pem").write_bytes(cmp_ca.pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "tls.pem")
    with cmp_ca.serve(ssl=tls) as server:
        context = Context(
            server.url.replace("127.0.0.1", "localhost"),
            credential=cmp_ca.secret(),
            tls=TLS(trusted=tmp_path / "ca.pem"),
        )
        assert enroll(Session(context)).status is PKIStatus.ACCEPTED
        context.close()


def test_close_ends_a_connection_that_waits(cmp_ca: CA) -> None:
    server = cmp_ca.serve()
    failed: list[Exception] = []

    def ask() -> None:
        try:
            enroll(server.session())
        except TransportError as error:
            failed.append(error)

    cmp_ca.misbehave(Delay(60))
    thread = threading.Thread(target=ask)
    thread.start()
    while not cmp_ca.exchanges:
        time.sleep(0.005)
    began = time.monotonic()
    server.close()
    thread.join()
    assert time.monotonic() - began < 10
    assert failed
