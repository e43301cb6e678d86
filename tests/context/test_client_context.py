"""ClientContext against OpenSSL's own server: every setter, every operation, every way to fail."""

import gc
import logging
import pydoc
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from opensslcmp._native import lib
from opensslcmp._native.memory import decode, encode, give, own
from opensslcmp.context import natives
from opensslcmp.context.client import ClientContext, PopoMethod
from opensslcmp.context.natives import NativeCertificate, NativeName
from opensslcmp.context.server import CertificateAnswer
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage, OpenSSLError, ProtectionError, Rejected, Unsupported
from tests import native_peers as peers

SOME_INFO = bytes.fromhex("301706082b06010505070404300b060960864801650304012a")
UNKNOWN_INFO = bytes.fromhex("300806042a0304050500")
DNS_NAME = b"\x82\x07x.local"
POLICY = bytes.fromhex("300606042a030405")
EXTENSIONS = bytes.fromhex("301430120603551d11040b30098207782e6c6f63616c")


@pytest.fixture(autouse=True)
def _queue_is_empty_before_and_after() -> Iterator[None]:
    assert lib.ERR_peek_error() == 0
    yield
    assert lib.ERR_peek_error() == 0


@pytest.fixture(params=[True, False], ids=["mac", "signature"])
def mac(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def csr_for(ca: peers.CA) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(peers.name("device-1"))
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def losing(sent: list[bytes]) -> Callable[[bytes], bytes]:
    """A transfer that notes what it should send and fails."""

    def transfer(request: bytes) -> bytes:
        sent.append(request)
        raise ZeroDivisionError

    return transfer


# Operations


@pytest.mark.parametrize("kind", [BodyType.IR, BodyType.CR, BodyType.KUR, BodyType.P10CR])
def test_each_kind_of_request_gets_a_certificate(mac: bool, kind: BodyType) -> None:
    client, _server, ca = peers.make_pair(mac=mac)
    if kind is BodyType.KUR:
        client.old_certificate = peers.device_party().der
    if kind is BodyType.P10CR:
        client.csr = csr_for(ca)
    certificate = client.request_certificate(kind)
    assert x509.load_der_x509_certificate(certificate).public_key() == ca.key.public_key()
    assert [asked[0] for asked in ca.asked] == ["certificate", "confirmation"]
    assert (client.status, client.raw_status, client.failures, client.status_text) == (PKIStatus.ACCEPTED, 0, (), ())
    assert client.new_certificate == certificate
    assert peers.root().der in client.extra_certs
    assert client.ca_certificates == ((peers.root().der,) if kind is BodyType.IR else ())
    assert client.status_line.startswith("PKIStatus: accepted")


def test_a_context_can_talk_to_a_server_context_without_leaving_c(mac: bool) -> None:
    ca = peers.CA()
    server = peers.make_server(ca, mac=mac)
    client = peers.make_client(None, ca, mac=mac)
    client.connect(server)
    assert client.request_certificate(BodyType.IR)


def test_what_a_connected_server_raises_comes_out_of_the_clients_operation() -> None:
    ca = peers.CA()

    def fail(*_args: Any) -> Any:
        raise LookupError("no database")

    server = peers.make_server(ca, certificate=fail)
    client = peers.make_client(None, ca)
    client.connect(server)
    with pytest.raises(LookupError, match="no database"):
        client.request_certificate(BodyType.IR)


def test_implicit_confirmation_saves_a_round_trip() -> None:
    client, server, ca = peers.make_pair()
    client.implicit_confirm = server.grant_implicit_confirm = True
    client.request_certificate(BodyType.IR)
    assert [asked[0] for asked in ca.asked] == ["certificate"]
    assert server.grant_implicit_confirm


def test_a_request_that_waits_returns_the_seconds_to_wait() -> None:
    client, _server, ca = peers.make_pair()
    ca.waits = 3
    assert client.try_certificate(BodyType.IR) == 1
    assert client.status is PKIStatus.WAITING
    assert client.try_certificate(BodyType.IR) == 1
    assert client.try_certificate(BodyType.IR) is None
    assert client.new_certificate is not None


def test_aborting_a_request_that_waits_tells_the_server() -> None:
    client, _server, ca = peers.make_pair()
    ca.waits = 9
    assert client.try_certificate(BodyType.IR) == 1
    client.abort()
    assert ca.asked[-1][0] == "error"


def test_a_certificate_is_revoked_with_its_reason(mac: bool) -> None:
    client, _server, ca = peers.make_pair(mac=mac)
    client.old_certificate = peers.device_party().der
    client.revocation_reason = RevocationReason.KEY_COMPROMISE
    client.revoke()
    ((kind, issuer, serial),) = ca.asked
    assert kind == "revocation"
    assert issuer == peers.root().certificate.subject.public_bytes()
    assert int.from_bytes(serial[2:], "big") == peers.device_party().certificate.serial_number


def test_revocation_by_a_csr_needs_a_transfer_since_openssl_may_crash_on_the_answer() -> None:
    client, server, ca = peers.make_pair()
    client.csr = csr_for(ca)
    client.transfer = None
    with pytest.raises(ValueError, match="needs a transfer"):
        client.revoke()
    assert server is not None


def test_an_answer_that_would_crash_openssl_after_revocation_by_a_csr_does_not_reach_it() -> None:
    client, server, ca = peers.make_pair()
    answers: list[bytes] = []

    def recorded(request: bytes) -> bytes:
        answers.append(server.process(request))
        return answers[-1]

    client.transfer = recorded
    client.old_certificate = peers.device_party().der
    client.revoke()
    by_csr, _server, ca = peers.make_pair()
    by_csr.csr = csr_for(ca)
    by_csr.transfer = lambda request: answers[0]
    with pytest.raises(BadMessage, match="names certificates"):
        by_csr.revoke()


@pytest.mark.needs("3.2")
def test_a_certificate_is_revoked_by_issuer_and_serial_number() -> None:
    client, _server, ca = peers.make_pair()
    client.issuer, client.serial_number = peers.root().certificate.subject.public_bytes(), b"\x02\x01\x07"
    client.revoke()
    assert ca.asked == [("revocation", client.issuer, b"\x02\x01\x07")]


def test_information_of_types_that_openssl_knows_and_does_not_know_arrives(mac: bool) -> None:
    client, _server, ca = peers.make_pair(mac=mac)
    for info in (SOME_INFO, UNKNOWN_INFO):
        client.add_info_request(info)
    assert client.request_info() == (SOME_INFO, UNKNOWN_INFO)
    assert ca.asked == [("info", (SOME_INFO, UNKNOWN_INFO))]


def test_a_request_built_and_changed_by_hand_is_sent_as_it_is() -> None:
    client, server, ca = peers.make_pair()
    server.accept_ra_verified = True
    request = client.setup_request()
    with_popo = b"\x30" + bytes([0x81, len(request) - 2 + 2]) if request[1] < 0x80 else None
    if with_popo is None:
        with_popo = b"\x30\x81" + bytes([request[2] + 2])
        content = request[3:]
    else:
        content = request[2:]
    client.request_certificate(BodyType.IR, with_popo + content + b"\x80\x00")
    assert ca.asked[0][2].endswith(b"\x80\x00")


def test_a_key_update_is_prepared_from_the_old_certificate() -> None:
    client, _server, _ca = peers.make_pair()
    client.old_certificate = peers.device_party().der
    assert len(client.setup_request(for_update=True)) > len(client.setup_request())


@pytest.mark.needs("3.2")
def test_the_certificate_that_signed_the_answer_is_known(mac: bool) -> None:
    client, _server, _ca = peers.make_pair(mac=mac)
    client.request_certificate(BodyType.IR)
    assert client.validated_server == (None if mac else peers.server_party().der)


@pytest.mark.needs("3.2")
def test_ca_certificates_are_fetched() -> None:
    client, server, _ca = peers.make_pair()
    answer = itav(lib.OSSL_CMP_ITAV_new_caCerts(natives.certificates([peers.root().der])))
    server._info = lambda _message, _infos: [answer]
    assert client.get_ca_certificates() == (peers.root().der,)


def itav(pointer: Any) -> bytes:
    return encode(lib.opensslcmp_itav_i2d, own(pointer, lib.OSSL_CMP_ITAV_free))


@pytest.mark.needs("3.4")
def test_a_crl_is_fetched_that_is_newer_than_ours() -> None:
    client, server, _ca = peers.make_pair()
    newest = crl()
    pointer = decode(lib.d2i_X509_CRL, lib.X509_CRL_free, newest)
    answer = itav(lib.OSSL_CMP_ITAV_new_crls(pointer))
    server._info = lambda _message, _infos: [answer]
    assert client.get_crl_update(peers.device_party().der) == newest
    client.reset()
    assert client.get_crl_update(None, newest) == newest


@pytest.mark.skipif(lib.OpenSSL_version_num() < 0x30500070, reason="get_root_ca_update is refused on this OpenSSL")
def test_a_new_root_is_fetched_with_its_cross_certificates() -> None:
    old, new = peers.root(), (key := peers.new_key())
    subject = peers.name("New Root")
    new_with_new = peers.der(peers.issue(subject, new.public_key(), subject, new, ca=True))
    new_with_old = peers.der(peers.issue(subject, key.public_key(), old.certificate.subject, old.key, ca=True))
    old_with_new = peers.der(peers.issue(old.certificate.subject, old.key.public_key(), subject, new, ca=True))
    client, server, _ca = peers.make_pair()
    pointers = [natives.certificate(one) for one in (new_with_new, new_with_old, old_with_new)]
    answer = itav(lib.OSSL_CMP_ITAV_new_rootCaKeyUpdate(*pointers))
    server._info = lambda _message, _infos: [answer]
    found = client.get_root_ca_update(old.der)
    assert found == (new_with_new, new_with_old, old_with_new)
    client, server, _ca = peers.make_pair()
    server._info = lambda _message, _infos: [bytes.fromhex("300a06082b06010505070412")]
    assert client.get_root_ca_update(old.der) == (None, None, None)


@pytest.mark.needs("3.5")
def test_the_ca_makes_the_key_when_asked_to() -> None:
    client, server, ca = peers.make_pair(mac=False)
    # Who makes keys needs the extended key usage for it (id-kp-cmKGA, RFC 9480).
    usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.32")])
    maker = peers.root().issue("Test Server", usage)
    server.context.certificate = maker.der
    server.context.set_key(maker.key_der)
    client.set_new_key(None)
    client.popo = PopoMethod.NONE
    made = ca.key

    def certificate(*request: Any) -> CertificateAnswer:
        pointer = natives.private_key(peers.key_der(made))
        assert lib.OSSL_CMP_CTX_set0_newPkey(server.context._ptr, 1, give(pointer)) == 1
        return CertificateAnswer(certificate=ca.certificate(*request).certificate)

    server._certificate = certificate
    assert client.request_certificate(BodyType.IR)
    private = client.new_key()
    assert private is not None
    loaded = serialization.load_der_private_key(private, None)
    assert loaded.public_key() == made.public_key()


@pytest.mark.needs("3.4")
def test_a_crl_update_and_a_request_template_that_are_not_there_are_none() -> None:
    client, server, _ca = peers.make_pair()
    server._info = lambda _message, _infos: [bytes.fromhex("300a06082b06010505070413")]
    assert client.get_certificate_request_template() == (None, None)


def test_what_the_linked_openssl_lacks_says_since_when_it_is_there() -> None:
    client, _server, _ca = peers.make_pair()
    lacking: dict[str, list[Any]] = {
        "3.2": [client.get_ca_certificates, lambda: client.validated_server, lambda: client.get_root_ca_update(b"")],
        "3.3": [lambda: client.general_info, lambda: setattr(client, "cache_extra_certs", False)],
        "3.4": [client.get_crl_update, client.get_certificate_request_template],
    }
    for since, calls in lacking.items():
        if int(since.replace(".", "")) > lib.OPENSSLCMP_LEVEL:
            for call in calls:
                with pytest.raises(Unsupported) as caught:
                    call()
                assert caught.value.since == since


@pytest.mark.skipif(lib.OpenSSL_version_num() >= 0x30500070, reason="fixed in this OpenSSL (or a later line)")
def test_root_updates_are_refused_where_openssl_accepts_a_root_of_anybody() -> None:
    client, _server, _ca = peers.make_pair()
    with pytest.raises(Unsupported):
        client.get_root_ca_update(peers.root().der)


# Failures


def test_a_refusal_tells_status_failure_and_text() -> None:
    client, server, _ca = peers.make_pair()

    def refuse(*_args: Any) -> CertificateAnswer:
        raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "no such device", "ask again")

    server._certificate = refuse
    with pytest.raises(Rejected) as caught:
        client.request_certificate(BodyType.IR)
    error = caught.value
    assert (error.status, error.failure, error.text) == (
        PKIStatus.REJECTION,
        FailureInfo.BAD_CERT_TEMPLATE,
        ("no such device", "ask again"),
    )
    assert client.failures == (FailureInfo.BAD_CERT_TEMPLATE,)
    assert isinstance(error.__cause__, OpenSSLError)


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_the_transfer_raises_comes_out_with_its_traceback(error: BaseException) -> None:
    def transfer(_request: bytes) -> bytes:
        raise error

    client = peers.make_client(transfer, peers.CA())
    with pytest.raises(type(error)) as caught:
        client.request_certificate(BodyType.IR)
    assert caught.value is error
    assert any(entry.name == "transfer" for entry in caught.traceback)
    assert client.raw_status == -2
    assert client.status is None


@pytest.mark.parametrize("answer", [b"", b"junk", b"\x30\x00", b"\x30\x84\xff\xff\xff\xff"])
def test_an_answer_that_is_no_message_is_an_openssl_error(answer: bytes) -> None:
    client = peers.make_client(lambda _request: answer, peers.CA())
    with pytest.raises(BadMessage):
        client.request_certificate(BodyType.IR)
    client = peers.make_client(lambda _request: answer, peers.CA(), guard=False)
    with pytest.raises(OpenSSLError, match="transfer error"):
        client.request_certificate(BodyType.IR)


def test_bytes_after_the_answer_are_refused() -> None:
    _client, server, ca = peers.make_pair()
    client = peers.make_client(lambda request: server.process(request) + b"\0", ca, guard=False)
    with pytest.raises(OpenSSLError, match="bytes follow the message"):
        client.request_certificate(BodyType.IR)


@pytest.mark.parametrize("answer", [None, "text", 7])
def test_an_answer_that_is_not_bytes_is_a_type_error(answer: Any) -> None:
    client = peers.make_client(lambda _request: answer, peers.CA())
    with pytest.raises(TypeError):
        client.request_certificate(BodyType.IR)


def test_a_wrong_secret_is_a_protection_error() -> None:
    client, _server, ca = peers.make_pair()
    other = peers.make_server(ca)
    other.context.secret = b"another"
    other.accept_unprotected = True
    client.transfer = other.process
    with pytest.raises(ProtectionError) as caught:
        client.request_certificate(BodyType.IR)
    assert caught.value.queue


def test_a_signer_whom_nobody_vouches_for_is_a_protection_error() -> None:
    client, server, _ca = peers.make_pair(mac=False)
    stranger = peers.Party(
        peers.issue(peers.name("Test Server"), (key := peers.new_key()).public_key(), peers.name("Else"), key), key
    )
    server.context.certificate = stranger.der
    server.context.set_key(stranger.key_der)
    with pytest.raises(ProtectionError):
        client.request_certificate(BodyType.IR)


def test_a_pinned_server_is_believed_without_trust_and_no_other_is() -> None:
    client, _server, _ca = peers.make_pair(mac=False)
    client.trust([])
    client.pinned_server = peers.server_party().der
    client.expected_sender = peers.server_party().certificate.subject.public_bytes()
    assert client.request_certificate(BodyType.IR)
    client, _server, _ca = peers.make_pair(mac=False)
    client.pinned_server = peers.device_party().der
    with pytest.raises(OpenSSLError):
        client.request_certificate(BodyType.IR)


def test_a_confirm_that_raises_rejected_refuses_the_certificate_with_its_text() -> None:
    client, _server, ca = peers.make_pair()
    seen = []

    def confirm(certificate: bytes) -> None:
        seen.append(certificate)
        raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "wrong name")

    client.confirm = confirm
    with pytest.raises(Rejected, match="wrong name"):
        client.request_certificate(BodyType.IR)
    assert x509.load_der_x509_certificate(seen[0]).subject == peers.name("device-1")
    status = ca.asked[-1][3]
    assert (status.status, status.failures) == (PKIStatus.REJECTION, (FailureInfo.BAD_CERT_TEMPLATE,))
    assert "wrong name" in status.text


def test_a_confirm_that_breaks_refuses_the_certificate_and_raises() -> None:
    client, _server, ca = peers.make_pair(confirm=lambda _certificate: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        client.request_certificate(BodyType.IR)
    assert ca.asked[-1][3].failures == (FailureInfo.SYSTEM_FAILURE,)


def test_a_confirm_that_agrees_and_one_that_is_taken_back_change_nothing() -> None:
    seen: list[bytes] = []
    client, _server, _ca = peers.make_pair(confirm=seen.append)
    assert client.confirm == seen.append
    assert client.request_certificate(BodyType.IR) == seen[0]
    client.confirm = None
    client.reset()
    assert client.request_certificate(BodyType.IR)
    assert len(seen) == 1


def test_a_certificate_that_leads_to_no_trusted_one_is_refused() -> None:
    client, _server, _ca = peers.make_pair()
    client.require_trusted_certificate([peers.root().der])
    assert client.request_certificate(BodyType.IR)
    assert client.new_chain[-1:] in {(), (peers.root().der,)}
    client, _server, ca = peers.make_pair()
    client.require_trusted_certificate([peers.server_party().der])
    with pytest.raises(OpenSSLError, match="certificate not accepted"):
        client.request_certificate(BodyType.IR)
    assert FailureInfo.INCORRECT_DATA in ca.asked[-1][3].failures


def test_a_context_inside_c_refuses_a_second_call_and_close() -> None:
    refused: list[object] = []

    def transfer(_request: bytes) -> bytes:
        for call in (client.close, lambda: client.request_certificate(BodyType.IR)):
            with pytest.raises(RuntimeError, match="inside another call"):
                call()
            refused.append(call)
        raise EOFError

    client = peers.make_client(transfer, peers.CA())
    with pytest.raises(EOFError):
        client.request_certificate(BodyType.IR)
    assert len(refused) == 2


@pytest.mark.parametrize("kind", [BodyType.RR, BodyType.GENM, BodyType.ERROR])
def test_only_certificate_requests_are_certificate_requests(kind: BodyType) -> None:
    client, _server, _ca = peers.make_pair()
    with pytest.raises(ValueError, match="kind is"):
        client.request_certificate(kind)


def test_path_validation_tells_trusted_from_untrusted() -> None:
    with ClientContext() as context:
        context.validate_path(peers.device_party().der, [peers.root().der])
        with pytest.raises(ProtectionError):
            context.validate_path(peers.device_party().der, [])


def crl(*revoked: x509.Certificate) -> bytes:
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(peers.root().certificate.subject)
    builder = builder.last_update(now - peers.DAY).next_update(now + peers.DAY)
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now - peers.DAY).build())
    return builder.sign(peers.root().key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_revoked_signer_is_not_believed() -> None:
    client, _server, _ca = peers.make_pair(mac=False)
    client.trust([peers.root().der], crls=[crl(peers.device_party().certificate)])
    assert client.request_certificate(BodyType.IR)
    client, _server, _ca = peers.make_pair(mac=False)
    client.trust([peers.root().der], crls=[crl(peers.server_party().certificate)])
    with pytest.raises(ProtectionError):
        client.request_certificate(BodyType.IR)


def test_a_signer_is_believed_for_the_time_of_its_certificate_only() -> None:
    for days, good in [(0, True), (365, False)]:
        client, _server, _ca = peers.make_pair(mac=False)
        client.trust([peers.root().der], at=int((datetime.now(UTC) + days * peers.DAY).timestamp()))
        if good:
            assert client.request_certificate(BodyType.IR)
        else:
            with pytest.raises(ProtectionError):
                client.request_certificate(BodyType.IR)


def test_any_certificate_can_be_an_anchor_where_partial_chains_are_allowed() -> None:
    client, _server, _ca = peers.make_pair(mac=False)
    client.trust([peers.server_party().der], partial_chain=True)
    assert client.request_certificate(BodyType.IR)


# Settings


OPTIONS: list[tuple[str, Any]] = [
    ("keep_alive", 2),
    ("message_timeout_seconds", 7),
    ("total_timeout_seconds", 9),
    ("validity_days", 30),
    ("inherit_subject_alt_names", False),
    ("subject_alt_names_critical", True),
    ("policies_critical", True),
    ("popo", PopoMethod.RA_VERIFIED),
    ("popo", PopoMethod.NONE),
    ("implicit_confirm", True),
    ("disable_confirm", True),
    ("revocation_reason", RevocationReason.SUPERSEDED),
    ("revocation_reason", None),
    ("unprotected_requests", True),
    ("unprotected_errors", True),
    ("owf", "SHA512"),
    ("mac", "hmacWithSHA256"),
    ("digest", "SHA384"),
    ("ignore_key_usage", True),
    ("permit_anchor_in_extra_certs", True),
    ("log_verbosity", 8),
    ("transfer", print),
    ("server", "ca.example"),
    ("server_path", "pkix/"),
    ("server_port", 8080),
    ("proxy", "proxy.example:3128"),
    ("no_proxy", "localhost"),
    ("reference", b"ref"),
    ("subject", peers.name("a").public_bytes()),
    ("issuer", peers.name("b").public_bytes()),
    ("recipient", peers.name("c").public_bytes()),
    ("expected_sender", peers.name("d").public_bytes()),
    ("certificate", peers.device_party().der),
    ("old_certificate", peers.device_party().der),
    ("pinned_server", peers.device_party().der),
    ("untrusted", (peers.root().der, peers.device_party().der)),
    pytest.param("use_tls", True, marks=pytest.mark.needs("3.2")),  # type: ignore[list-item]
    pytest.param("serial_number", b"\x02\x01\x05", marks=pytest.mark.needs("3.2")),  # type: ignore[list-item]
    pytest.param("cache_extra_certs", False, marks=pytest.mark.needs("3.3")),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("setting", "value"), OPTIONS)
def test_what_is_set_can_be_read_until_the_context_is_closed(setting: str, value: Any) -> None:
    context = ClientContext()
    setattr(context, setting, value)
    assert getattr(context, setting) == value
    context.close()
    with pytest.raises(ValueError, match="closed"):
        setattr(context, setting, value)


@pytest.mark.parametrize("setting", ["message_timeout_seconds", "total_timeout_seconds"])
def test_no_timeout_is_none(setting: str) -> None:
    context = ClientContext()
    assert getattr(context, setting) is None
    setattr(context, setting, 5)
    setattr(context, setting, None)
    assert getattr(context, setting) is None


def test_settings_that_are_nonsense_are_value_errors() -> None:
    context = ClientContext()
    for setting, value in [
        ("log_verbosity", 9),
        ("keep_alive", None),
        ("validity_days", -1),
        ("digest", "md6"),
        ("total_timeout_seconds", -5),
    ]:
        with pytest.raises(ValueError):  # noqa: PT011 -- the text differs
            setattr(context, setting, value)


@pytest.mark.parametrize("setting", ["subject", "certificate", "csr", "old_certificate", "untrusted"])
def test_der_that_does_not_decode_is_an_openssl_error(setting: str) -> None:
    with pytest.raises(OpenSSLError):
        setattr(ClientContext(), setting, [b"\x30\x01"] if setting == "untrusted" else b"\x30\x01")


@pytest.mark.parametrize("der", [DNS_NAME, POLICY, EXTENSIONS, SOME_INFO])
def test_requests_carry_what_is_added_to_them(der: bytes) -> None:
    client, _server, ca = peers.make_pair()
    sent = []
    transfer = client.transfer
    assert transfer is not None
    client.transfer = lambda request: sent.append(request) or transfer(request)  # type: ignore[func-returns-value]
    add = {
        DNS_NAME: client.add_subject_alt_name,
        POLICY: client.add_policy,
        EXTENSIONS: client.set_request_extensions,
        SOME_INFO: client.add_general_info,
    }[der]
    add(der)
    assert client.request_extensions_have_subject_alt_name == (der == EXTENSIONS)
    client.request_certificate(BodyType.IR)
    assert (der if der != EXTENSIONS else der[2:]) in sent[0]
    assert ca.asked


def test_general_info_can_be_taken_back() -> None:
    client, _server, _ca = peers.make_pair()
    sent: list[bytes] = []
    client.transfer = losing(sent)
    client.add_general_info(UNKNOWN_INFO)
    if lib.OPENSSLCMP_LEVEL >= 33:
        assert client.general_info == (UNKNOWN_INFO,)
    client.clear_general_info()
    with pytest.raises(ZeroDivisionError):
        client.request_certificate(BodyType.IR)
    assert UNKNOWN_INFO not in sent[0]


def test_transaction_id_and_nonce_are_taken_as_given() -> None:
    client, _server, _ca = peers.make_pair()
    sent: list[bytes] = []
    client.transfer = losing(sent)
    client.set_transaction_id(b"0123456789abcdef")
    client.set_sender_nonce(None)
    with pytest.raises(ZeroDivisionError):
        client.request_certificate(BodyType.IR)
    assert b"0123456789abcdef" in sent[0]
    client.set_transaction_id(None)
    client.set_sender_nonce(bytes(16))


def test_natives_are_decoded_once_and_shared_by_contexts() -> None:
    certificate, subject = NativeCertificate(peers.device_party().der), NativeName(peers.name("x").public_bytes())
    for _ in range(3):
        context = ClientContext()
        context.certificate, context.subject = certificate, subject
        context.trust([certificate, peers.root().der])
        context.untrusted = [certificate, peers.root().der]
        assert context.untrusted == (certificate.der, peers.root().der)
        context.close()
    assert encode(lib.i2d_X509, certificate._ptr) == peers.device_party().der


def test_keys_are_taken_as_der_or_as_natives_private_or_public() -> None:
    ca = peers.CA()
    public = ca.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    context = ClientContext()
    context.set_new_key(public, private=False)
    assert context.new_key() is None
    context.set_new_key(peers.key_der(ca.key))
    made = context.new_key()
    assert made is not None
    assert serialization.load_der_private_key(made, None) == ca.key or made
    context.set_new_key(None)
    context.set_key(None)

    class Owner:
        _ptr = decode(lib.d2i_AutoPrivateKey, lib.EVP_PKEY_free, peers.key_der(ca.key))

    context.set_key(Owner())
    context.set_new_key(Owner())
    assert context.new_key() == made


def test_the_chain_of_our_certificate_is_built_or_refused() -> None:
    context = ClientContext()
    context.certificate = peers.device_party().der
    context.build_chain(None, [peers.root().der])
    context.build_chain([peers.root().der], [])
    with pytest.raises(OpenSSLError):
        context.build_chain([peers.server_party().der], [])
    context.set_extra_certs([peers.root().der])


def test_untrusted_certificates_cannot_change_once_a_message_went_out() -> None:
    client, _server, _ca = peers.make_pair()
    client.untrusted = [peers.root().der]
    client.request_certificate(BodyType.IR)
    with pytest.raises(ValueError, match="before the first message"):
        client.untrusted = []


def test_a_secret_cannot_be_read_and_is_in_no_repr() -> None:
    client, _server, _ca = peers.make_pair()
    with pytest.raises(AttributeError, match="only be set"):
        _ = client.secret
    assert peers.SECRET not in repr(vars(client)).encode()


def test_reset_forgets_the_results() -> None:
    client, _server, _ca = peers.make_pair()
    client.request_certificate(BodyType.IR)
    client.reset()
    assert client.new_certificate is None
    assert client.raw_status == -1
    assert client.status_line == ""


def test_closing_twice_is_fine_and_using_it_afterwards_is_a_value_error() -> None:
    with ClientContext() as context:
        context.keep_alive = 0
    context.close()
    with pytest.raises(ValueError, match="ClientContext is closed"):
        _ = context.status


def test_a_context_is_freed_with_its_last_reference() -> None:
    client, server, _ca = peers.make_pair()
    client.request_certificate(BodyType.IR)
    alive = weakref.ref(client), weakref.ref(server)
    gc.disable()
    try:
        del client, server
        assert [one() for one in alive] == [None, None]
    finally:
        gc.enable()


def test_a_property_query_that_nothing_satisfies_fails() -> None:
    with pytest.raises(OpenSSLError, match="provider=none"):
        ClientContext(property_query="provider=none")
    assert ClientContext(property_query="provider=default").property_query == "provider=default"


class Library:
    """An OSSL_LIB_CTX. It is never freed: that must happen in the thread that used it, not where garbage is collected."""

    _ptr = lib.OSSL_LIB_CTX_new()


def test_a_library_context_may_be_used() -> None:
    client, _server, _ca = peers.make_pair(library_context=Library)
    assert client.request_certificate(BodyType.IR)


# Logging


def test_what_openssl_logs_goes_to_logging_and_errors_stay_in_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    client = peers.make_client(lambda _request: b"junk", peers.CA(), guard=False)
    client.log_verbosity = 7
    with caplog.at_level(logging.DEBUG, "opensslcmp.openssl"), pytest.raises(OpenSSLError) as caught:
        client.request_certificate(BodyType.IR)
    assert caplog.records
    assert {record.levelno for record in caplog.records} >= {logging.INFO}
    assert "transfer error" in str(caught.value)


def test_errors_that_openssl_logs_away_are_still_in_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    with ClientContext() as context:
        context.log_verbosity = 4
        with pytest.raises(ProtectionError) as caught:
            context.validate_path(peers.device_party().der, [])
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    assert any("certificate" in entry for entry in caught.value.queue)


def test_the_class_can_be_read_by_help() -> None:
    assert "revocation_reason" in pydoc.plain(pydoc.render_doc(ClientContext))


def test_nothing_reaches_stderr_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    client = peers.make_client(lambda _request: b"junk", peers.CA(), guard=False)
    with pytest.raises(OpenSSLError):
        client.request_certificate(BodyType.IR)
    assert capfd.readouterr() == ("", "")


def test_contexts_work_in_threads_at_once() -> None:
    done = []

    def enroll() -> None:
        client, _server, _ca = peers.make_pair()
        done.append(client.request_certificate(BodyType.IR))

    threads = [threading.Thread(target=enroll) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(done)) == 8


# OpenSSL's own HTTP client


@pytest.fixture
def http_server() -> Iterator[tuple[str, int]]:
    """The test CA behind HTTP/1.0 on loopback: address and port."""
    ca = peers.make_server(peers.CA())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = ca.process(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/pkixcmp")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


def http_client(http_server: tuple[str, int]) -> ClientContext:
    client = peers.make_client(None, peers.CA())
    client.server, client.server_port = http_server
    client.server_path, client.proxy, client.message_timeout_seconds = "pkix/", "", 5
    return client


def test_without_a_transfer_openssl_speaks_http_itself(http_server: tuple[str, int]) -> None:
    client = http_client(http_server)
    client.keep_alive = 0
    client.add_info_request(UNKNOWN_INFO)
    assert client.request_info() == (UNKNOWN_INFO,)


@pytest.mark.skipif(lib.OPENSSLCMP_LEVEL < 32, reason="3.0 takes a hook's argument for the wish to use TLS")
def test_an_http_hook_sees_each_connection_come_and_go(http_server: tuple[str, int]) -> None:
    calls = []

    def hook(bio: Any, connecting: bool, _detail: int) -> Any:
        calls.append(connecting)
        return bio

    client = http_client(http_server)
    client.set_http_hook(hook)
    client.add_info_request(UNKNOWN_INFO)
    assert client.request_info() == (UNKNOWN_INFO,)
    assert calls == [True, False]


def test_what_an_http_hook_raises_comes_out_of_the_operation(http_server: tuple[str, int]) -> None:
    def hook(_bio: Any, _connecting: bool, _detail: int) -> Any:
        raise InterruptedError

    client = http_client(http_server)
    client.set_http_hook(hook)
    client.add_info_request(UNKNOWN_INFO)
    with pytest.raises(InterruptedError):
        client.request_info()
    client.set_http_hook(None)
