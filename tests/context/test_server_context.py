"""ServerContext: each callback works, raises, and meets nonsense."""

import gc
import weakref
from typing import Any

import pytest

from opensslcmp._native import lib
from opensslcmp.asn1 import PKIStatusInfo, admit
from opensslcmp.context.client import ClientContext
from opensslcmp.context.server import CertificateAnswer, ServerContext
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage, OpenSSLError, Rejected, Unsupported
from tests import native_peers as peers

GIVEN = bytes.fromhex("300a06082b06010505070401")


class Trouble(Exception):
    """Raised by a callback."""


def fail(*_args: Any) -> Any:
    raise Trouble


def run(client: ClientContext, kind: str) -> None:
    """An operation that reaches the callback named ``kind``."""
    if kind in {"certificate", "confirmation", "delay", "clean"}:
        client.request_certificate(BodyType.IR)
    elif kind == "revocation":
        client.old_certificate = peers.device_party().der
        client.revoke()
    elif kind == "info":
        client.add_info_request(GIVEN)
        client.request_info()
    else:
        client.try_certificate(BodyType.IR)
        if kind == "poll":
            client.try_certificate(BodyType.IR)
        else:
            client.abort()


KINDS = ["certificate", "revocation", "info", "error", "confirmation", "poll"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_callback_is_asked(kind: str) -> None:
    client, _server, ca = peers.make_pair()
    ca.waits = 2 if kind in {"poll", "error"} else 0
    run(client, kind)
    assert kind in [asked[0] for asked in ca.asked]
    assert lib.ERR_peek_error() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_callback_raises_comes_out_of_process(kind: str) -> None:
    client, server, ca = peers.make_pair()
    ca.waits = 2 if kind in {"poll", "error"} else 0
    setattr(server, f"_{kind}", fail)
    with pytest.raises(Trouble):
        run(client, kind)
    assert lib.ERR_peek_error() == 0


@pytest.mark.parametrize("nonsense", [None, "text", 3.5, object()])
@pytest.mark.parametrize("kind", ["certificate", "revocation", "info", "poll"])
def test_nonsense_from_a_callback_is_an_exception_and_no_crash(kind: str, nonsense: Any) -> None:
    client, server, ca = peers.make_pair()
    ca.waits = 2 if kind == "poll" else 0
    setattr(server, f"_{kind}", lambda *_args: nonsense)
    with pytest.raises((TypeError, AttributeError, OpenSSLError, ValueError)):
        run(client, kind)


@pytest.mark.parametrize(
    "answer",
    [
        CertificateAnswer(certificate=b"\x30\x00"),
        CertificateAnswer(certificate=peers.device_party().der, chain=[b"x"]),
        CertificateAnswer(certificate=peers.device_party().der, ca_certificates=[b"x"]),
    ],
)
def test_certificates_that_do_not_decode_are_an_exception(answer: CertificateAnswer) -> None:
    client, server, _ca = peers.make_pair()
    server._certificate = lambda *_args: answer
    with pytest.raises(OpenSSLError):
        client.request_certificate(BodyType.IR)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_without_a_callback_is_refused(kind: str) -> None:
    ca = peers.CA()
    server = peers.make_server(ca, mac=True, **{kind: None})
    client = peers.make_client(server.process, ca)
    ca.waits = 2 if kind in {"poll", "error"} else 0
    if kind == "error":
        run(client, kind)  # the client has given up already and does not look at the answer
    else:
        with pytest.raises(Rejected):
            run(client, kind)


def test_a_revocation_is_refused_with_a_failure() -> None:
    client, server, _ca = peers.make_pair()

    def refuse(*_args: Any) -> PKIStatusInfo:
        raise Rejected(FailureInfo.CERT_REVOKED, "long ago")

    server._revocation = refuse
    client.old_certificate = peers.device_party().der
    with pytest.raises(Rejected) as caught:
        client.revoke()
    assert (caught.value.failure, caught.value.text) == (FailureInfo.CERT_REVOKED, ("long ago",))


def test_a_certificate_can_be_granted_with_changes() -> None:
    client, server, ca = peers.make_pair()
    changed = PKIStatusInfo.make(PKIStatus.GRANTED_WITH_MODS, "shorter")
    made = ca.certificate(b"", 0, None, None)
    server._certificate = lambda *_args: CertificateAnswer(certificate=made.certificate, status=changed)
    assert client.request_certificate(BodyType.IR) == made.certificate
    assert (client.status, client.status_text) == (PKIStatus.GRANTED_WITH_MODS, ("shorter",))


def test_an_empty_genp_is_no_information() -> None:
    client, server, _ca = peers.make_pair()
    server._info = lambda *_args: ()
    client.add_info_request(GIVEN)
    assert client.request_info() == ()


def test_requests_without_protection_are_accepted_only_when_told() -> None:
    client, server, _ca = peers.make_pair()
    client.unprotected_requests = client.unprotected_errors = True
    with pytest.raises((Rejected, OpenSSLError)):
        client.request_certificate(BodyType.IR)
    client, server, _ca = peers.make_pair()
    client.unprotected_requests = True
    server.accept_unprotected = True
    assert client.request_certificate(BodyType.IR)


@pytest.mark.parametrize(
    "setting", ["send_unprotected_errors", "accept_unprotected", "accept_ra_verified", "grant_implicit_confirm"]
)
def test_settings_are_off_and_can_be_read(setting: str) -> None:
    server = ServerContext()
    assert getattr(server, setting) is False
    setattr(server, setting, True)
    assert getattr(server, setting) is True
    server.close()
    with pytest.raises(ValueError, match="closed"):
        setattr(server, setting, True)


def test_errors_of_an_earlier_failure_are_not_told_to_the_next_client() -> None:
    client, server, _ca = peers.make_pair()
    server._certificate = None
    lib.OBJ_txt2obj(b"no such object", 0)
    assert lib.ERR_peek_error() != 0
    with pytest.raises((Rejected, AssertionError)) as caught:
        client.request_certificate(BodyType.IR)
    assert "no such object" not in repr(caught.value)


@pytest.mark.parametrize("request_", [b"", b"junk", b"\x30\x00"])
def test_what_is_no_message_does_not_come_to_openssl(request_: bytes) -> None:
    with pytest.raises(BadMessage):
        peers.make_server(peers.CA()).process(request_)
    assert lib.ERR_peek_error() == 0


def test_bytes_after_a_request_are_refused() -> None:
    server = peers.make_server(peers.CA())
    client = peers.make_client(lambda request: server.process(request + b"\0"), peers.CA())
    with pytest.raises(BadMessage, match="ExtraData"):
        client.request_certificate(BodyType.IR)


def test_answers_are_messages_that_the_gate_admits() -> None:
    client, server, _ca = peers.make_pair()
    client.transfer = lambda request: admit(server.process(admit(request).der)).der
    assert client.request_certificate(BodyType.IR)


def test_the_context_of_a_closed_server_is_closed() -> None:
    with ServerContext() as server:
        context = server.context
        context.close()
        assert context.raw_status == -1
    with pytest.raises(ValueError, match="closed"):
        _ = context.raw_status


def test_the_context_outlives_a_server_that_is_forgotten() -> None:
    server = ServerContext()
    context, alive = server.context, weakref.ref(server)
    gc.disable()
    try:
        del server
        assert alive() is None
        assert context.raw_status == -1
    finally:
        gc.enable()


@pytest.mark.skipif(lib.OPENSSLCMP_LEVEL >= 33, reason="this OpenSSL can delay")
def test_delayed_delivery_says_which_openssl_it_needs() -> None:
    with pytest.raises(Unsupported) as caught:
        ServerContext(delay=lambda _message: True)
    assert caught.value.since == "3.3"


@pytest.mark.needs("3.3")
def test_any_answer_can_be_delayed_and_a_transaction_cleaned_up() -> None:
    ca = peers.CA()
    cleaned: list[bytes | None] = []
    delays = iter([True, False, False, False])
    held: list[bytes] = []

    def delay(message: bytes) -> bool:
        held.append(message)
        return next(delays)

    def poll(_message: bytes, _request_id: int) -> bytes:
        return held[0]

    server = peers.make_server(ca, delay=delay, clean=cleaned.append, poll=poll)
    client = peers.make_client(server.process, ca)
    # For an answer that is delayed by an error message OpenSSL polls by itself, in try_certificate too.
    assert client.try_certificate(BodyType.IR) is None
    assert len(held) > 1
    assert cleaned


@pytest.mark.needs("3.3")
@pytest.mark.parametrize("kind", ["delay", "clean"])
def test_what_delay_and_clean_raise_comes_out_of_process(kind: str) -> None:
    ca = peers.CA()
    server = peers.make_server(ca, mac=True, **{kind: fail})
    client = peers.make_client(server.process, ca)
    with pytest.raises(Trouble):
        client.request_certificate(BodyType.IR)
