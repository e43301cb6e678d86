"""Central key generation at the server: who gets a key, how it is sealed, and that it is nowhere else."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    BitString,
    Message,
    SubjectPublicKeyInfo,
    algorithm,
    cms,
    decode,
    der,
    elements,
    encode,
    oids,
    wrap,
)
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.cms import Originator, open_enveloped, verify_signed_data
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.server import CA, IssuingProfile, LiveResponder, open_responder
from opensslcmp.server.authority import CertificateRequest, Issued, Pending
from opensslcmp.server.key_generation import KeyGenerator
from opensslcmp.server.vault import Vault
from tests.server.device import KEYS, Device, certificate_of, crmf, extension, mac_device, poll_request, said, status_of
from tests.server.world import Plain, World, fresh_world

B, F = BodyType, FailureInfo
USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
P256 = decode(SubjectPublicKeyInfo, KEYS[0].public_key_der).algorithm


def key_usage(*names: str) -> Any:
    flags = dict.fromkeys((*USAGES, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    return extension(x509.KeyUsage(**(flags | dict.fromkeys(names, True))), critical=True)


@functools.cache
def kga() -> tuple[bytes, PrivateKey]:
    """Certificate and key of a key generation authority of the world's CA."""
    world, key = fresh_world(), PrivateKey.generate("ec:P-256")
    profile = IssuingProfile(extended_key_usage=("cmKGA",))
    ca = CA(world.ca.certificate, world.ca._key, world.store, Plain(), profiles=(profile,))
    world.ca.add_secret("kga", "secret")
    responder = world.again(ca)
    return mac_device(responder.handle, world.clock, "kga").enroll(key, "CN=KGA"), key


def generating(**options: Any) -> World:
    certificate, key = kga()
    return fresh_world(key_generator=KeyGenerator(certificate, key, Plain(), **options))


def central(subject: str | None = "CN=device", kind: AlgorithmIdentifier | None = None, **fields: Any) -> Any:
    """A request without key, or with an algorithm alone."""
    fields.setdefault("popo", "none")
    template = SubjectPublicKeyInfo(algorithm=kind, subject_public_key=BitString(b"", 0)) if kind else None
    return crmf(KEYS[0], subject, public_key=template, **fields)


def made(world: World, answer: Message, secret: PrivateKey | bytes, **options: Any) -> PrivateKey:
    """The private key in an answer, after all that RFC 9483 says of it."""
    pair = answer.content().response[0].certified_key_pair
    assert pair is not None
    assert answer.header.pvno == 3
    encrypted = der(pair.private_key)
    assert encrypted[0] == 0xA0
    signed = open_enveloped(b"\x30" + encrypted[1:], secret, content_type=oids.CT_SIGNED_DATA, **options)
    assert decode(int, next(iter(parts(signed)))) == 3
    found = verify_signed_data(
        signed, content_type=oids.CT_KP_A_KEY_PACKAGE, trust=Trust([world.ca.certificate]), at=world.clock()
    )
    assert oids.KP_CM_KGA in facts(found.certificate).extended_key_usage
    (key,) = cms.packaged_keys(found.content)
    assert key.version == 1
    assert key.public_key is not None
    own = PrivateKey.load(key.pkcs8)
    assert own.public_key_der == facts(pair.certificate or b"").spki
    return own


def parts(data: bytes) -> list[bytes]:
    return [data[start:end] for start, end in elements(data)]


@pytest.mark.parametrize("kind", [None, P256])
def test_a_secret_receives_a_key_by_a_password_recipient(kind: AlgorithmIdentifier | None) -> None:
    world = generating()
    device = world.device()
    answer = device.ask(B.IR, central(kind=kind), pvno=3)
    key = made(world, answer, b"secret")
    certificate = certificate_of(answer)
    assert device.confirm(certificate).body_type is B.PKICONF
    assert device.signing(certificate, key).ask(B.CR, crmf(KEYS[1], "CN=device")).body_type is B.CP
    info = cms.EnvelopedData.from_der(b"\x30" + der(answer.content().response[0].certified_key_pair.private_key)[1:])
    assert isinstance(info.recipient, cms.PasswordRecipientInfo)


def test_the_kind_of_the_template_is_made() -> None:
    world = generating(kinds=("ec:P-256", "ed25519", "rsa:2048"))
    device = world.device()
    for kind, name in ((algorithm("1.3.101.112"), "ED25519"), (algorithm(oids.RSA_ENCRYPTION, b"\x05\x00"), "RSA")):
        answer = device.ask(B.IR, central(kind=kind), pvno=3)
        assert made(world, answer, b"secret").key_type == name


@functools.cache
def rsa_key() -> PrivateKey:
    return PrivateKey.load(rsa.generate_private_key(65537, 2048))


def holder(world: World, key: PrivateKey, *usages: str) -> Device:
    """A device with a certificate of this keyUsage."""
    device = world.device()
    asked = crmf(key, "CN=holder", extensions=[key_usage("digital_signature", *usages)])
    certificate = certificate_of(device.ask(B.IR, asked, implicit=True))
    return device.signing(certificate, key)


def recipient_of(answer: Message) -> Any:
    pair = answer.content().response[0].certified_key_pair
    return cms.EnvelopedData.from_der(b"\x30" + der(pair.private_key)[1:]).recipient


@pytest.mark.parametrize("way", ["oaep", "pkcs1", "kem"])
def test_an_rsa_certificate_receives_it_by_key_transport(way: Any) -> None:
    world = generating(rsa=way)
    device = holder(world, rsa_key(), "key_encipherment")
    answer = device.ask(B.CR, central("CN=holder"), pvno=3)
    made(world, answer, rsa_key())
    expected = cms.KEMRecipientInfo if way == "kem" else cms.KeyTransRecipientInfo
    assert isinstance(recipient_of(answer), expected)


def test_an_ec_certificate_receives_it_by_key_agreement() -> None:
    world = generating()
    device = holder(world, KEYS[2], "key_agreement")
    answer = device.ask(B.CR, central("CN=holder"), pvno=3)
    made(world, answer, KEYS[2])
    info = recipient_of(answer)
    assert isinstance(info, cms.KeyAgreeRecipientInfo)
    about = facts(device.credential.certificates[0])
    assert about.key_id is not None
    assert encode(info.recipient_encrypted_keys[0].rid) == wrap(0xA0, encode(about.key_id))


def test_a_key_update_may_be_central_too() -> None:
    world = generating()
    device = holder(world, KEYS[2], "key_agreement")
    answer = device.ask(B.KUR, central(None, old=device.credential.certificates[0]), pvno=3)
    made(world, answer, KEYS[2])


def test_the_servers_own_key_agrees_when_its_certificate_allows_that() -> None:
    world = generating()
    own = PrivateKey.generate("ec:P-256")
    certificate = holder(world, own, "key_agreement").credential.certificates[0]
    world = generating(originator=Originator(key=own, certificate=certificate))
    device = holder(world, KEYS[2], "key_agreement")
    answer = device.ask(B.CR, central("CN=holder"), pvno=3)
    info = recipient_of(answer)
    assert encode(info.originator) == cms.key_identifier(facts(certificate).key_id or b"")
    made(world, answer, KEYS[2], originators=[certificate])


def test_nobody_gets_a_key_unless_it_is_switched_on() -> None:
    world = fresh_world()
    assert said(world.device().ask(B.IR, central(), pvno=3)) == (B.IP, F.BAD_CERT_TEMPLATE)


def test_a_retransmission_gets_the_same_bytes_and_nothing_is_kept_in_the_clear() -> None:
    world = generating()
    device = world.device()
    answer = device.ask(B.IR, central(), pvno=3)
    key = made(world, answer, b"secret")
    assert world.responder.handle(device.last_request) == answer.der
    octets = _private_octets(key)
    assert octets not in answer.der


def _private_octets(key: PrivateKey) -> bytes:
    """The private value of an EC key."""
    inner = decode(cms.OneAsymmetricKey, key.to_pkcs8()).private_key
    start, end = list(elements(inner))[1]
    return decode(bytes, inner[start:end])


class Waits:
    """An authority that puts a request off once."""

    def __init__(self, ca: CA) -> None:
        self.ca = ca
        self.certificate = ca.certificate
        self.keys: list[bytes] = []

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        self.keys.append(request.public_key)
        return self.ca.issue(request) if request.pending == b"later" else Pending(reference=b"later")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ca, name)


def test_a_request_that_waits_gets_the_key_that_was_made_at_first(tmp_path: Path) -> None:
    world = generating()
    authority = Waits(world.ca)
    certificate, key = kga()
    vault = Vault.create(tmp_path / "vault.key")
    responder = world.again(authority, key_generator=KeyGenerator(certificate, key, vault))
    device = world.device(handle=responder.handle)
    assert status_of(device.ask(B.IR, central(), pvno=3)).status == PKIStatus.WAITING
    kept = world.store.look(device.transaction_id, b"")[0]
    answer = device.send(B.POLL_REQ, poll_request(), pvno=3)
    own = made(world, answer, b"secret")
    assert own.public_key_der == authority.keys[0]
    assert kept is not None
    assert kept.pending is not None
    assert _private_octets(own) not in kept.pending
    assert authority.keys[0] == authority.keys[1]


def test_a_directory_made_for_it_generates_keys(tmp_path: Path) -> None:
    CA.create(tmp_path / "ca", "CN=Test CA", key_generation=True).close()
    assert (tmp_path / "ca" / "kga.key").stat().st_mode & 0o777 == 0o600
    responder = open_responder(tmp_path / "ca")
    ca: Any = responder.authority
    try:
        ca.add_secret("device", "secret")
        device = mac_device(responder.handle, ca._clock)
        answer = device.ask(B.IR, central(), pvno=3)
        world = World(ca, ca.store, ca._clock, responder)
        made(world, answer, b"secret")
    finally:
        responder.close()


def test_the_settings_name_what_is_wrong_with_them(tmp_path: Path) -> None:
    CA.create(tmp_path / "ca", "CN=Test CA").close()
    (tmp_path / "ca" / "opensslcmp.toml").write_text('[key_generation]\nkinds = ["ec:P-257"]\n')
    with pytest.raises(ValueError, match="kinds has no such kind of key"):
        LiveResponder(tmp_path / "ca")
    (tmp_path / "ca" / "opensslcmp.toml").write_text("[key_generation]\nenabled = true\n")
    with pytest.raises(FileNotFoundError, match=r"kga\.pem"):
        LiveResponder(tmp_path / "ca")


def test_a_certificate_that_is_not_for_it_signs_no_keys() -> None:
    world = fresh_world()
    device = holder(world, KEYS[2])
    with pytest.raises(ValueError, match="cmKGA"):
        KeyGenerator(device.credential.certificates[0], KEYS[2], Plain())
    with pytest.raises(ValueError, match="not that of the certificate"):
        KeyGenerator(kga()[0], KEYS[2], Plain())
