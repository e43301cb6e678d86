"""NativeMessage: libcrypto decodes, protects and verifies messages of any kind."""

import pytest

from opensslcmp._native import lib
from opensslcmp.asn1 import Message, admit
from opensslcmp.context.client import ClientContext
from opensslcmp.context.message import NativeMessage
from opensslcmp.enums import BodyType
from opensslcmp.errors import OpenSSLError, ProtectionError
from tests import native_peers as peers


def captured(*, mac: bool = True) -> bytes:
    """A protected ir as the client sends it."""
    sent: list[bytes] = []
    client, server, _ca = peers.make_pair(mac=mac)
    client.transfer = lambda request: sent.append(request) or server.process(request)  # type: ignore[func-returns-value]
    client.request_certificate(BodyType.IR)
    return sent[0]


def credentials(*, mac: bool = True) -> ClientContext:
    return peers.make_client(None, peers.CA(), mac=mac)


def parsed(der: bytes) -> Message:
    return admit(der)


@pytest.mark.parametrize("mac", [True, False])
def test_a_message_survives_decoding_and_encoding(mac: bool) -> None:
    der = captured(mac=mac)
    message = NativeMessage(der)
    assert message.encode() == der == message.copy().encode()
    assert message.body_type is BodyType.IR
    assert message.transaction_id == parsed(der).transaction_id
    assert message.recip_nonce is None


@pytest.mark.parametrize("mac", [True, False])
def test_a_message_verifies_with_the_right_credentials_only(mac: bool) -> None:
    message = NativeMessage(captured(mac=mac))
    message.validate(credentials(mac=mac))
    with pytest.raises(ProtectionError) as caught:
        message.validate(credentials(mac=not mac))
    assert caught.value.queue
    assert lib.ERR_peek_error() == 0


@pytest.mark.parametrize("mac", [True, False])
def test_a_message_is_protected_anew_under_another_transaction_id(mac: bool) -> None:
    message = NativeMessage(captured(mac=not mac))
    context = credentials(mac=mac)
    message.update_transaction_id(context, b"0123456789abcdef")
    assert message.transaction_id == b"0123456789abcdef"
    made = parsed(message.encode())
    if mac:
        assert made.sender_kid == peers.REFERENCE
    NativeMessage(message.encode()).validate(credentials(mac=mac))
    message.update_transaction_id(context)
    message.validate(credentials(mac=mac))


def test_a_message_gets_the_recip_nonce_of_a_context() -> None:
    message = NativeMessage(captured())
    message.update_recip_nonce(credentials())
    message.validate(credentials())


def test_protecting_without_credentials_fails() -> None:
    with pytest.raises(OpenSSLError):
        NativeMessage(captured()).update_transaction_id(ClientContext())


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"junk" * 10])
def test_what_is_no_message_is_an_openssl_error(der: bytes) -> None:
    with pytest.raises(OpenSSLError):
        NativeMessage(der)


def test_bytes_after_a_message_are_refused() -> None:
    with pytest.raises(OpenSSLError, match="bytes follow"):
        NativeMessage(captured() + b"\0")


@pytest.mark.needs("3.3")
def test_header_information_and_the_requested_key_are_readable() -> None:
    message = NativeMessage(captured())
    assert message.general_info == ()
    assert message.public_key is not None
