"""Real messages come back byte for byte: ``openssl cmp`` 3.0.19 and its mock server sent them to each other."""

from pathlib import Path

import pytest
from pyasn1.codec.der import decoder  # type: ignore[import-untyped]
from pyasn1_alt_modules import rfc9810  # type: ignore[import-untyped]

from opensslcmp.asn1 import admit, assemble, encode, encode_body, protected_part, raw_cert_requests
from opensslcmp.enums import BodyType

MESSAGES = {path.stem: path.read_bytes() for path in (Path(__file__).parent.parent / "data" / "cmp").glob("*.der")}
OF_OPENSSL = {
    "ir", "ip", "cr", "cp", "kur", "kup", "p10cr", "rr", "rp", "genm", "genp", "certConf", "pkiconf", "pollReq",
    "pollRep", "error",
}  # fmt: skip


def test_corpus_holds_every_body_that_openssl_can_send() -> None:
    assert {admit(der).body_type.text for der in MESSAGES.values()} == OF_OPENSSL


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_message_is_encoded_as_it_was(name: str) -> None:
    der = MESSAGES[name]
    message = admit(der)
    assert name.endswith(message.body_type.text)
    assert encode(message.header) == message.header_der
    body = encode_body(message.body_type, message.content())
    assert body == message.body_der
    part = protected_part(message.header, message.body_type, body)
    assert part == message.protected_part
    assert assemble(part, message.protection, message.extra_certs) == der


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_header_says_what_an_independent_decoder_says(name: str) -> None:
    message = admit(MESSAGES[name])
    header = decoder.decode(message.header_der, asn1Spec=rfc9810.PKIHeader())[0]
    assert int(header["pvno"]) == message.header.pvno
    for field, value in (
        ("transactionID", message.transaction_id),
        ("senderNonce", message.sender_nonce),
        ("recipNonce", message.recip_nonce),
        ("senderKID", message.sender_kid),
    ):
        assert (bytes(header[field]) if header[field].isValue else None) == value
    algorithm = header["protectionAlg"]["algorithm"]
    assert (str(algorithm) if algorithm.isValue else None) == message.protection_algorithm
    moment = header["messageTime"]
    assert (moment.asDateTime if moment.isValue else None) == message.message_time


@pytest.mark.parametrize("name", [name for name in sorted(MESSAGES) if name.endswith(("-ir", "-cr", "-kur"))])
def test_raw_cert_request_is_what_was_signed(name: str) -> None:
    message = admit(MESSAGES[name])
    assert raw_cert_requests(message.body_der) == [encode(item.cert_req) for item in message.content()]


def test_accessors_of_a_real_enrollment() -> None:
    message = admit(MESSAGES["mac_ir_implicit-1a-ir"])
    assert message.body_type is BodyType.IR
    assert message.implicit_confirm
    assert message.confirm_wait_time is None
    assert message.cert_profile == ()
    assert message.sender_kid == b"device"
    assert message.mac is not None
    assert message.sender is not None
    assert message.recipient is not None
    assert message.recip_nonce is None
