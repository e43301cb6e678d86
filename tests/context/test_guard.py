"""Answers that harm an unpatched OpenSSL are refused before it sees them."""

import dataclasses

import pytest
from cryptography import x509
from cryptography.hazmat.asn1 import BitString, Variant

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    CertifiedKeyPair,
    CertRepMessage,
    CertResponse,
    EncryptedValue,
    Message,
    PKIStatusInfo,
    admit,
)
from opensslcmp.asn1 import common as asn1
from opensslcmp.context import guard
from opensslcmp.context.guard import refuse_dangerous
from opensslcmp.enums import BodyType, PKIStatus
from opensslcmp.errors import BadMessage, ProtectionError
from tests import native_peers as peers

AES = AlgorithmIdentifier(
    algorithm=x509.ObjectIdentifier("2.16.840.1.101.3.4.1.42"), parameters=asn1.tlv(b"\x04\x10" + bytes(16))
)
BITS = BitString(b"some bits", 0)


@pytest.fixture
def holed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OpenSSL with every hole."""
    monkeypatch.setattr(guard, "_affected", lambda _number: True)


@pytest.fixture
def answer() -> Message:
    """An ip from "Test Server"."""
    got: list[bytes] = []
    client, server, _ca = peers.make_pair(mac=False)

    def transfer(request: bytes) -> bytes:
        got.append(server.process(request))
        return got[-1]

    client.transfer = transfer
    client.request_certificate(BodyType.IR)
    return admit(got[0])


@pytest.mark.usefixtures("holed")
def test_an_answer_of_somebody_else_is_refused(answer: Message) -> None:
    refuse_dangerous(answer)
    refuse_dangerous(answer, expected_sender=peers.server_party().certificate.subject.public_bytes())
    with pytest.raises(ProtectionError, match="not the one expected"):
        refuse_dangerous(answer, expected_sender=peers.name("%s%n").public_bytes())


@pytest.mark.usefixtures("holed")
def test_names_that_mean_the_same_are_the_same(answer: Message) -> None:
    name = peers.server_party().certificate.subject.public_bytes()
    printable = name.replace(b"\x0c\x0bTest Server", b"\x13\x0btest server")
    assert printable != name
    refuse_dangerous(answer, expected_sender=printable)


@pytest.mark.usefixtures("holed")
def test_a_client_that_expects_a_sender_never_shows_another_to_openssl() -> None:
    for setting, value in (
        ("expected_sender", peers.name("%s%n").public_bytes()),
        ("pinned_server", peers.device_party().der),
    ):
        client, _server, _ca = peers.make_pair(mac=False)
        setattr(client, setting, value)
        with pytest.raises(ProtectionError, match="not the one expected"):
            client.request_certificate(BodyType.IR)


def test_an_openssl_without_the_hole_decides_itself(answer: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_affected", lambda _number: False)
    refuse_dangerous(answer, expected_sender=peers.name("else").public_bytes())


def encrypted(answer: Message, content: bytes) -> Message:
    """``answer`` with ``content`` as its encrypted certificate."""
    pair = CertifiedKeyPair(cert_or_enc_cert=Variant(asn1.tlv(content), "encryptedCert"))
    response = CertResponse(cert_req_id=0, status=PKIStatusInfo.make(PKIStatus.ACCEPTED), certified_key_pair=pair)
    return dataclasses.replace(answer, body_der=asn1.der(CertRepMessage(response=[response])))


@pytest.mark.usefixtures("holed")
@pytest.mark.parametrize(
    "value",
    [
        EncryptedValue(enc_value=BITS),
        EncryptedValue(symm_alg=AES, enc_value=BITS),
        EncryptedValue(enc_symm_key=BITS, enc_value=BITS),
        EncryptedValue(symm_alg=AlgorithmIdentifier(algorithm=AES.algorithm), enc_symm_key=BITS, enc_value=BITS),
    ],
)
def test_an_encrypted_certificate_that_does_not_say_how_is_refused(answer: Message, value: EncryptedValue) -> None:
    with pytest.raises(BadMessage, match="without its algorithm or key"):
        refuse_dangerous(encrypted(answer, asn1.der(value)))


@pytest.mark.usefixtures("holed")
def test_an_encrypted_certificate_that_does_not_decode_is_refused(answer: Message) -> None:
    with pytest.raises(BadMessage, match="does not decode"):
        refuse_dangerous(encrypted(answer, b"\x30\x03\x02\x01\x00"))


@pytest.mark.usefixtures("holed")
def test_an_encrypted_certificate_that_is_complete_or_enveloped_passes(answer: Message) -> None:
    refuse_dangerous(encrypted(answer, asn1.der(EncryptedValue(symm_alg=AES, enc_symm_key=BITS, enc_value=BITS))))
    refuse_dangerous(encrypted(answer, b"\xa0\x00"))
