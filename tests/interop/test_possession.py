"""Proofs of possession between Session and Responder: keys that sign nothing, encrypted certificates, challenges."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import hmac
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.asn1 import Variant

from opensslcmp import AsyncSession, Context, PrivateKey, Rejected, Session, SharedSecret
from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    BitString,
    Message,
    PBMParameter,
    PKMACValue,
    POPOPrivKey,
    POPOSigningKey,
    POPOSigningKeyInput,
    SubjectPublicKeyInfo,
    algorithm,
    decode,
    der,
    encode,
    encrypted_value,
    enveloped_data,
    oids,
    tlv,
    wrap,
)
from opensslcmp.client.possession import answer_challenges, open_certificate
from opensslcmp.context.cms import Recipient, seal
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage
from opensslcmp.server.authority import Pending as Later
from opensslcmp.server.store import CertificateState, TransactionState, certificate_key
from opensslcmp.transport import InProcess
from tests.server.device import certificate_of, crmf, extension, said
from tests.server.world import World, fresh_world

ML_KEM = [pytest.param(f"ml-kem-{size}", marks=pytest.mark.needs("3.5")) for size in (512, 768, 1024)]
KINDS = ["rsa:2048", "ec:P-256", "ec:P-384", "ec:P-521", "ec:brainpoolP256r1", "x25519", "x448", *ML_KEM]


@functools.cache
def key(kind: str) -> PrivateKey:
    return PrivateKey.generate(kind)


def session(world: World, **options: Any) -> Session:
    world.device()
    return Session(
        Context(credential=SharedSecret("device", "secret"), **options), transport=InProcess(world.responder)
    )


def asks(kind: str, how: int, **options: Any) -> Any:
    """A request that is proved by decryption: 0 encrCert, 1 challengeResp."""
    own = key(kind)
    made = crmf(own, popo="none", **options)
    choice = "keyEncipherment" if kind.startswith(("rsa", "ml-kem")) else "keyAgreement"
    return dataclasses.replace(
        made, popo=Variant(POPOPrivKey(value=Variant(how, "subsequentMessage")).to_tlv(), choice)
    )


# -- both ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proof", ["indirect", "challenge"])
def test_possession_is_proved_by_decryption(kind: str, proof: Any) -> None:
    world = fresh_world()
    issued = session(world).enroll("CN=new", key(kind), proof=proof)
    usage = issued.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    encrypts = kind.startswith(("rsa", "ml-kem"))
    assert (usage.key_encipherment, usage.key_agreement, usage.digital_signature) == (encrypts, not encrypts, False)
    record = world.store.certificate(
        certificate_key(issued.certificate.issuer.public_bytes(), issued.certificate.serial_number)
    )
    assert record is not None
    assert record.state is CertificateState.VALID


@pytest.mark.parametrize("kind", ["x25519", "x448", *ML_KEM])
def test_a_key_that_signs_nothing_is_proved_indirectly_without_being_told(kind: str) -> None:
    issued = session(fresh_world(), implicit_confirm=True).enroll("CN=new", key(kind))
    assert not issued.implicitly_confirmed  # the certHash is the proof


@pytest.mark.parametrize("proof", ["indirect", "challenge"])
def test_the_asynchronous_twin_does_the_same(proof: Any) -> None:
    world = fresh_world()
    world.device()

    class Transport:
        async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
            return world.responder.handle(request)

        async def aclose(self) -> None: ...

    async def enroll() -> Any:
        context = Context(credential=SharedSecret("device", "secret"))
        async with AsyncSession(context, transport=Transport()) as twin:
            return await twin.enroll("CN=new", key("x25519"), proof=proof)

    assert asyncio.run(enroll()).certificate.subject.rfc4514_string() == "CN=new"


@pytest.mark.parametrize("proof", ["indirect", "challenge"])
def test_an_update_may_be_proved_by_decryption_too(proof: Any) -> None:
    from opensslcmp import Signer

    world = fresh_world()
    own = key("ec:P-256")
    certificate = world.device().enroll(own, "CN=old")
    context = Context(credential=Signer(certificate, own), trusted=[world.ca.certificate])
    updated = Session(context, transport=InProcess(world.responder)).update(key=key("rsa:2048"), proof=proof)
    assert updated.certificate.subject.rfc4514_string() == "CN=old"


@pytest.mark.parametrize("proof", ["indirect", "challenge"])
def test_a_request_that_is_put_off_is_proved_all_the_same(proof: Any) -> None:
    world = fresh_world()
    issue, asked = world.ca.issue, []

    def later(request: Any) -> Any:
        asked.append(request)
        return Later(check_after_seconds=1) if len(asked) == 1 else issue(request)

    world.ca.issue = later  # type: ignore[method-assign]
    client = session(world)
    pending: Any = client.enroll("CN=new", key("x25519"), proof=proof, wait=False)
    issued: Any = client.resume(type(pending).load(pending.save()), key("x25519"))
    assert issued.certificate.subject.rfc4514_string() == "CN=new"


def test_a_proof_that_a_key_cannot_give_is_told_before_anything_is_sent() -> None:
    world = fresh_world()
    with pytest.raises(ValueError, match="by signature only"):
        session(world).enroll("CN=new", generate="ed25519", proof="indirect")
    with pytest.raises(ValueError, match="no such proof"):
        session(world).enroll("CN=new", generate="ed25519", proof="oath")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="does not sign"):
        session(world).enroll("CN=new", key("x25519"), proof="signature")


def test_a_server_may_accept_signatures_only() -> None:
    world = fresh_world(proofs=["signature"])
    with pytest.raises(Rejected) as caught:
        session(world).enroll("CN=new", key("x25519"))
    assert caught.value.failure is FailureInfo.BAD_POP
    with pytest.raises(ValueError, match="no such proof"):
        fresh_world(proofs=["oath"])


# -- the server's messages ---------------------------------------------------------------------------------------------


def opened(answer: Message, kind: str) -> bytes:
    response = answer.content().response[0]
    assert response.certificate is None
    return open_certificate(response, key(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_an_encrypted_certificate_is_enveloped_data_with_pvno_3(kind: str) -> None:
    world = fresh_world()
    answer = world.device().ask(BodyType.IR, asks(kind, 0), pvno=3, implicit=True)
    value = answer.content().response[0].certified_key_pair.cert_or_enc_cert.value
    assert enveloped_data(value) is not None
    assert not answer.implicit_confirm
    x509.load_der_x509_certificate(opened(answer, kind))
    assert opened(answer, kind) not in b"".join(answer.extra_certs)


def test_an_encrypted_certificate_is_an_encrypted_value_with_pvno_2() -> None:
    world = fresh_world()
    answer = world.device().ask(BodyType.IR, asks("rsa:2048", 0))
    value = encrypted_value(answer.content().response[0].certified_key_pair.cert_or_enc_cert.value)
    assert value is not None
    assert value.symm_alg is not None
    assert value.symm_alg.oid == oids.AES256_CBC
    x509.load_der_x509_certificate(opened(answer, "rsa:2048"))


@pytest.mark.parametrize(("how", "answer"), [(0, BodyType.IP), (1, BodyType.IP)])
def test_with_pvno_2_only_rsa_keys_are_proved_by_decryption(how: int, answer: BodyType) -> None:
    world = fresh_world()
    assert said(world.device().ask(BodyType.IR, asks("x25519", how))) == (answer, FailureInfo.BAD_POP)


def test_who_cannot_open_the_certificate_cannot_confirm_it() -> None:
    world = fresh_world()
    device = world.device()
    certificate = opened(device.ask(BodyType.IR, asks("x25519", 0), pvno=3), "x25519")
    assert said(device.confirm(certificate + b"\0", pvno=3)) == (BodyType.ERROR, FailureInfo.BAD_CERT_ID)
    world.clock.now += 601
    world.responder.sweep()
    about = x509.load_der_x509_certificate(certificate)
    record = world.store.certificate(certificate_key(about.issuer.public_bytes(), about.serial_number))
    assert record is not None
    assert record.state is CertificateState.REVOKED


def test_a_challenge_is_as_the_rfc_says() -> None:
    world = fresh_world()
    device = world.device()
    answer = device.ask(BodyType.IR, asks("ec:P-256", 1), pvno=3)
    assert answer.body_type is BodyType.POPDECC
    (challenge,) = answer.content()
    assert (challenge.challenge, challenge.owf.oid) == (b"", oids.SHA256)
    enveloped = der(challenge.encrypted_rand)
    # rid: a NULL-DN, and the certReqId as serial number
    assert wrap(0x30, b"\x30\x00" + b"\x02\x01\x00") in enveloped
    (number,) = answer_challenges([challenge], answer.header, key("ec:P-256"))
    assert challenge.witness == hashlib.sha256(encode(number)).digest()
    final = device.send(BodyType.POPDECR, [number], pvno=3)
    assert final.body_type is BodyType.IP
    assert device.confirm(certificate_of(final), pvno=3).body_type is BodyType.PKICONF


def test_a_challenge_with_pvno_2_is_encrypted_by_rsa_itself(tmp_path: Path) -> None:
    world = fresh_world()
    device = world.device()
    answer = device.ask(BodyType.IR, asks("rsa:2048", 1))
    (challenge,) = answer.content()
    assert challenge.encrypted_rand is None
    (tmp_path / "key.pem").write_bytes(key("rsa:2048").to_pem())
    command = ["openssl", "pkeyutl", "-decrypt", "-inkey", str(tmp_path / "key.pem")]
    rand = subprocess.run(command, input=challenge.challenge, capture_output=True, check=True).stdout
    from opensslcmp.asn1 import Rand

    parsed = decode(Rand, rand)
    assert der(parsed.sender) == der(answer.header.sender)
    assert certificate_of(device.send(BodyType.POPDECR, [parsed.integer]))


def test_nothing_is_issued_before_the_challenge_is_answered_and_one_wrong_answer_ends_it() -> None:
    world = fresh_world()
    device = world.device()
    answer = device.ask(BodyType.IR, asks("x25519", 1), pvno=3)
    transaction, _ = world.store.look(device.transaction_id, b"")
    assert transaction is not None
    assert transaction.state is TransactionState.CHALLENGED
    assert world.store.certificates() == 0
    (number,) = answer_challenges(answer.content(), answer.header, key("x25519"))
    for numbers in ([number + 1], [number]):
        refused = device.send(BodyType.POPDECR, numbers, pvno=3)
        assert refused.body_type is BodyType.ERROR
    assert world.store.certificates() == 0


@pytest.mark.parametrize("numbers", [[], [1, 2]])
def test_as_many_numbers_as_challenges_come_back(numbers: list[int]) -> None:
    world = fresh_world()
    device = world.device()
    device.ask(BodyType.IR, asks("x25519", 1), pvno=3)
    refused = device.send(BodyType.POPDECR, numbers, pvno=3)
    assert said(refused) == (BodyType.ERROR, FailureInfo.BAD_POP)


def test_a_challenge_is_not_polled_past() -> None:
    world = fresh_world()
    device = world.device()
    device.ask(BodyType.IR, asks("x25519", 1), pvno=3)
    from tests.server.device import poll_request

    assert said(device.send(BodyType.POLL_REQ, poll_request(), pvno=3)) == (BodyType.ERROR, FailureInfo.BAD_REQUEST)
    assert world.store.certificates() == 0


def test_a_request_that_is_refused_anyway_is_not_challenged() -> None:
    world = fresh_world()
    refused = world.device().ask(BodyType.IR, asks("x25519", 1, subject=b"0\0"), pvno=3)
    assert said(refused) == (BodyType.IP, FailureInfo.BAD_CERT_TEMPLATE)


def test_an_answered_challenge_is_answered_the_same_once_more() -> None:
    world = fresh_world()
    device = world.device()
    answer = device.ask(BodyType.IR, asks("x25519", 1), pvno=3)
    first = device.handle(device.last_request)
    assert first == answer.der
    final = device.send(BodyType.POPDECR, answer_challenges(answer.content(), answer.header, key("x25519")), pvno=3)
    assert device.handle(device.last_request) == final.der
    assert world.store.certificates() == 1


# -- poposkInput ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("secret", "failure"), [(b"secret", None), (b"another", FailureInfo.BAD_POP)])
def test_a_public_key_mac_is_made_with_the_secret_of_the_message(secret: bytes, failure: Any) -> None:
    """RFC 4211, 4.1 and 4.4, the MAC computed here by hashlib and hmac."""
    own, salt = key("ec:P-256"), b"salt of 16 bytes"
    hashed = secret + salt
    for _ in range(1000):
        hashed = hashlib.sha256(hashed).digest()
    parameters = PBMParameter(
        salt=salt, owf=algorithm(oids.SHA256), iteration_count=1000, mac=algorithm(oids.HMAC_SHA256)
    )
    value = PKMACValue(
        alg_id=algorithm(oids.PASSWORD_BASED_MAC, encode(parameters)),
        value=BitString(hmac.digest(hashed, own.public_key_der, "sha256"), 0),
    )
    signed = POPOSigningKeyInput(
        auth_info=Variant(value, "publicKeyMAC"), public_key=decode(SubjectPublicKeyInfo, own.public_key_der)
    )
    san = extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]))
    made = crmf(own, subject=None, extensions=[san], popo="none")
    proof = POPOSigningKey(
        poposk_input=signed,
        algorithm_identifier=decode(AlgorithmIdentifier, own.signature_algorithm()),
        signature=BitString(own.sign(encode(signed)), 0),
    )
    asked = dataclasses.replace(made, popo=Variant(proof, "signature"))
    assert said(fresh_world().device().ask(BodyType.IR, asked)) == (BodyType.IP, failure)


# -- a client and what it is sent ----------------------------------------------------------------------------------------


def test_a_challenge_that_is_not_the_servers_is_not_answered() -> None:
    world = fresh_world()
    answer = world.device().ask(BodyType.IR, asks("x25519", 1), pvno=3)
    (challenge,) = answer.content()
    own = key("x25519")
    for wrong, failure in (
        ([], FailureInfo.BAD_DATA_FORMAT),
        ([challenge, challenge], FailureInfo.BAD_DATA_FORMAT),
        ([dataclasses.replace(challenge, owf=None)], FailureInfo.BAD_ALG),
        ([dataclasses.replace(challenge, witness=b"w" * 32)], FailureInfo.BAD_MESSAGE_CHECK),
        ([dataclasses.replace(challenge, encrypted_rand=None)], FailureInfo.BAD_DATA_FORMAT),
        (
            [dataclasses.replace(challenge, encrypted_rand=tlv(seal(b"x", Recipient(spki=own.public_key_der))))],
            FailureInfo.BAD_DATA_FORMAT,
        ),
    ):
        with pytest.raises(BadMessage) as caught:
            answer_challenges(wrong, answer.header, own)
        assert caught.value.failure is failure
    other = dataclasses.replace(answer.header, sender=answer.header.recipient)
    with pytest.raises(BadMessage, match="somebody else"):
        answer_challenges([challenge], other, own)


def test_openssl_opens_the_certificate_that_is_encrypted(tmp_path: Path) -> None:
    """openssl cms is a peer that shares no code with ours."""
    world = fresh_world()
    for kind in ("rsa:2048", "ec:P-256"):
        answer = world.device().ask(BodyType.IR, asks(kind, 0), pvno=3)
        enveloped = enveloped_data(answer.content().response[0].certified_key_pair.cert_or_enc_cert.value)
        assert enveloped is not None
        info = wrap(0x30, encode(algorithm(oids.CT_ENVELOPED_DATA).algorithm) + wrap(0xA0, enveloped))
        (tmp_path / "in.der").write_bytes(info)
        (tmp_path / "key.pem").write_bytes(key(kind).to_pem())
        (tmp_path / "own.der").write_bytes(opened(answer, kind))
        command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", "in.der", "-inkey", "key.pem", "-binary"]
        done = subprocess.run([*command, "-out", "out.der"], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out.der").read_bytes() == opened(answer, kind)


def test_the_clients_of_openssl_get_an_encrypted_certificate(tmp_path: Path) -> None:
    """OSSL_CMP_CTX itself asks with keyEnc, decrypts and confirms."""
    world = fresh_world()
    issued = session(world, popo="keyEnc").enroll("CN=new", key("rsa:2048"))
    assert issued.certificate.subject.rfc4514_string() == "CN=new"
