"""Central key generation at the client: a key by every kind of credential, and what is refused of what comes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import AsyncSession, Context, Rejected, Session, SharedSecret, Signer
from opensslcmp.asn1 import CertReqMsg, SubjectPublicKeyInfo, controls, decode, encode
from opensslcmp.asn1 import elements as parts
from opensslcmp.asn1.controls import Controls
from opensslcmp.client.central import kind_asked_for
from opensslcmp.client.journal import Journal
from opensslcmp.client.request import request_body
from opensslcmp.context.certificates import facts
from opensslcmp.context.cms import PasswordRecipient, Recipient
from opensslcmp.context.enrollment import EnrollmentRequest
from opensslcmp.context.keys import PrivateKey, algorithm_of
from opensslcmp.credentials import MacParameters
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, ProtectionError
from opensslcmp.server.key_generation import KeyGenerator
from tests.server.device import name
from tests.server.test_key_generation import generating, kga
from tests.server.world import Plain, World

SECRET = SharedSecret("device", "secret")


def session_of(world: World, **options: Any) -> Session:
    world.device()
    return Session(Context("http://ca.example", **({"credential": SECRET} | options)), world.responder.handle)


@pytest.mark.parametrize("generate", ["central", "central:ec:P-384", "central:ed25519", "central:rsa"])
def test_a_key_comes_with_the_certificate(generate: str) -> None:
    world = generating(kinds=("ec:P-256", "ec:P-384", "ed25519", "rsa:2048"))
    issued = session_of(world).enroll("CN=device", generate=generate)
    assert issued.key is not None
    public = issued.certificate.public_key()
    loaded = PrivateKey.load(issued.key.to_pem())
    assert loaded.public_key_der == issued.key.public_key_der
    assert issued.key.key_type == {"": "EC", "ec:P-384": "EC", "ed25519": "ED25519", "rsa": "RSA"}[generate[8:]]
    assert public is not None
    # And it is one to go on with.
    signer = Signer(issued.certificate, issued.key, issued.chain)
    again = Session(
        Context("http://ca.example", credential=signer, trusted=[world.ca.certificate]), world.responder.handle
    )
    assert again.update(generate="ec:P-256").key is not None


def test_the_async_twin_does_the_same() -> None:
    world = generating()
    world.device()

    async def run() -> Any:
        async def send(request: bytes) -> bytes:
            return world.responder.handle(request)

        async with AsyncSession(Context("http://ca.example", credential=SECRET), send) as session:
            return await session.enroll("CN=device", generate="central")

    assert asyncio.run(run()).key is not None


def credential(world: World, key: PrivateKey, usage: str) -> Signer:
    held = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    ) | {"digital_signature": True, usage: True}
    issued = session_of(world).enroll("CN=holder", key, extensions=[x509.KeyUsage(**held)])
    return Signer(issued.certificate, key, issued.chain)


@pytest.mark.parametrize(
    ("kind", "usage", "way"),
    [
        ("rsa", "key_encipherment", "oaep"),
        ("rsa", "key_encipherment", "pkcs1"),
        ("rsa", "key_encipherment", "kem"),
        ("ec", "key_agreement", "oaep"),
    ],
)
def test_a_certificate_receives_one(kind: str, usage: str, way: Any) -> None:
    world = generating(rsa=way)
    own = PrivateKey.load(rsa.generate_private_key(65537, 2048)) if kind == "rsa" else PrivateKey.generate("ec:P-256")
    signer = credential(world, own, usage)
    context = Context("http://ca.example", credential=signer, trusted=[world.ca.certificate])
    session = Session(context, world.responder.handle)
    assert session.enroll("CN=holder", generate="central", kind="cr").key is not None
    assert session.update(generate="central").key is not None


def test_without_it_the_server_refuses_and_says_why() -> None:
    world = generating()
    signer = credential(world, PrivateKey.generate("ec:P-256"), "content_commitment")
    context = Context("http://ca.example", credential=signer, trusted=[world.ca.certificate])
    with pytest.raises(Rejected) as caught:
        Session(context, world.responder.handle).enroll("CN=holder", generate="central", kind="cr")
    assert caught.value.failure is FailureInfo.NOT_AUTHORIZED


def test_a_key_and_central_exclude_each_other_and_kinds_are_known() -> None:
    world = generating()
    session = session_of(world)
    with pytest.raises(ValueError, match="is to make one"):
        session.enroll("CN=device", PrivateKey.generate(), generate="central")
    with pytest.raises(ValueError, match="no such kind of key"):
        session.enroll("CN=device", generate="central:ec:P-257")
    assert kind_asked_for("ec:P-256") is None


class Forged(KeyGenerator):
    """A key generation authority that is not what it should be."""

    how = ""

    def package(self, pkcs8: bytes, spki: bytes, recipient: Recipient | PasswordRecipient) -> bytes:
        if self.how == "other key":
            other = PrivateKey.generate("ec:P-256")
            return super().package(other.to_pkcs8(), other.public_key_der, recipient)
        if self.how == "other secret":
            return super().package(pkcs8, spki, PasswordRecipient(secret=b"guessed"))
        if self.how == "in clear":
            return b""
        if self.how == "half":
            return super().package(pkcs8, spki, recipient)[:-1] + b"\x00"
        return super().package(pkcs8, spki, recipient)


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        ("other key", FailureInfo.INCORRECT_DATA),
        ("other secret", FailureInfo.BAD_MESSAGE_CHECK),
        ("in clear", FailureInfo.BAD_DATA_FORMAT),
        ("half", FailureInfo.BAD_MESSAGE_CHECK),
    ],
)
def test_a_key_that_is_not_as_it_should_be_is_refused_and_the_certificate_with_it(
    how: str, failure: FailureInfo
) -> None:
    world = generating()
    certificate, key = kga()
    forged = Forged(certificate, key, Plain())
    forged.how = how
    responder = world.again(key_generator=forged)
    world.device()
    session = Session(Context("http://ca.example", credential=SECRET), responder.handle)
    with pytest.raises(BadMessage) as caught:
        session.enroll("CN=device", generate="central")
    assert caught.value.failure in {failure, FailureInfo.BAD_DATA_FORMAT}
    (record,) = [
        each for each in world.store.every_certificate() if facts(each.certificate).subject == name("CN=device")
    ]
    assert record.state.name == "REVOKED"


def test_who_may_not_make_keys_is_not_believed() -> None:
    """A certificate of the CA without id-kp-cmKGA, or of somebody else."""
    world = generating()
    own = PrivateKey.generate("ec:P-256")
    plain = session_of(world).enroll("CN=plain", own)
    generator = KeyGenerator(kga()[0], kga()[1], Plain())
    generator.certificate, generator._key = plain.certificate.public_bytes(Encoding.DER), own
    session = Session(Context("http://ca.example", credential=SECRET), world.again(key_generator=generator).handle)
    with pytest.raises(ProtectionError) as caught:
        session.enroll("CN=device", generate="central")
    assert caught.value.failure is FailureInfo.NOT_AUTHORIZED


def test_the_request_is_what_rfc_9483_asks_for() -> None:
    body_type, body = request_body(
        EnrollmentRequest(body_type=BodyType.IR, subject=name("CN=x"), popo="none", central="ec:P-256")
    )
    assert body_type is BodyType.IR
    (request,) = [decode(CertReqMsg, body[start:end]) for start, end in parts(body)]
    template = request.cert_req.cert_template
    assert request.popo is None
    assert template.asks_for_key
    assert template.public_key is not None
    assert encode(template.public_key.algorithm) == algorithm_of("ec:P-256")
    _, body = request_body(EnrollmentRequest(body_type=BodyType.IR, subject=name("CN=x"), popo="none", central=""))
    (request,) = [decode(CertReqMsg, body[start:end]) for start, end in parts(body)]
    assert request.cert_req.cert_template.public_key is None


@pytest.mark.parametrize(
    "kind", ["ec:P-256", "ec:P-521", "ec:brainpoolP384r1", "ed25519", "ed448", "x25519", "x448", "rsa:2048"]
)
def test_the_algorithm_of_a_kind_is_that_of_its_keys(kind: str) -> None:
    made = decode(SubjectPublicKeyInfo, PrivateKey.generate(kind).public_key_der)
    assert encode(made.algorithm) == algorithm_of(kind)


def test_a_journaled_enrollment_has_its_key_when_it_is_taken_up_again(tmp_path: Path) -> None:
    world = generating()
    world.device()
    context = Context("http://ca.example", credential=SECRET)
    with Journal(tmp_path / "journal") as journal:
        session = Session(context, world.responder.handle, journal=journal)
        first = session.enroll("CN=device", generate="central", label="one")
        again = session.enroll("CN=device", generate="central", label="one")
    assert first.key is not None
    assert again.key is not None
    assert again.key.public_key_der == first.key.public_key_der
    assert again.certificate == first.certificate


def test_other_mac_parameters_change_nothing() -> None:
    world = generating()
    parameters = MacParameters(scheme="pbmac1", iterations=1000)
    secret = SharedSecret("device", "secret", parameters=parameters)
    assert session_of(world, credential=secret).enroll("CN=device", generate="central").key is not None


class Listens:
    """An authority that looks at the controls of a request."""

    def __init__(self, ca: Any) -> None:
        self.ca = ca
        self.heard: list[Controls] = []

    def issue(self, request: Any) -> Any:
        self.heard.append(request.controls)
        if request.controls.reg_token != "one-time":
            raise Rejected(FailureInfo.NOT_AUTHORIZED, "no such token")
        return self.ca.issue(request)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.ca, attribute)


def test_controls_and_reg_info_reach_the_authority() -> None:
    world = generating()
    authority = Listens(world.ca)
    responder = world.again(authority)
    world.device()
    session = Session(Context("http://ca.example", credential=SECRET), responder.handle)
    issued = session.enroll(
        "CN=device",
        generate="ec:P-256",
        token="one-time",
        controls=[controls.publication(False), controls.authenticator("blue")],
        reg_info=[controls.utf8_pairs({"place": "hall 3"})],
    )
    assert issued.key is not None
    (heard,) = authority.heard
    assert (heard.publish, heard.authenticator, heard.utf8_pairs) == (False, "blue", {"place": "hall 3"})
    with pytest.raises(Rejected, match="no such token"):
        session.enroll("CN=device", generate="ec:P-256")
    twice = [controls.publication(False)] * 2
    with pytest.raises(Rejected) as caught:
        session.enroll("CN=device", generate="ec:P-256", token="one-time", controls=twice)
    assert caught.value.failure is FailureInfo.BAD_DATA_FORMAT
