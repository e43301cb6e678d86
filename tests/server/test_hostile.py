"""What strangers and enemies send: each gets an answer, and nothing is issued."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from opensslcmp.asn1 import (
    Certificate,
    CertifiedKeyPair,
    CertRepMessage,
    CertResponse,
    Extension,
    Limits,
    PKIStatusInfo,
    admit,
    assemble,
    attach_signature,
    decode,
    encode,
    encode_body,
    make_header,
    oids,
    protected_part,
    tlv,
    wrap,
)
from opensslcmp.asn1 import algorithm as identifier
from opensslcmp.context import protection
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import ProtectionKind, verify
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.server import CA, MemoryStore
from tests.server.device import KEYS, certificate_of, conf, crmf, csr, name, revocation, said, status_of
from tests.server.world import World

B, F = BodyType, FailureInfo


def test_the_message_that_crashes_unpatched_libraries_gets_an_error(world: World) -> None:
    # CVE-2026-63076: PBM parameters that are no SEQUENCE.
    for parameters in (b"\x05\x00", b"\x02\x01\x01", b"\x04\x00", b"\x30\x00", None):
        header = make_header(
            sender=name("CN=x"),
            recipient=b"0\x00",
            transaction_id=os.urandom(16),
            sender_nonce=os.urandom(16),
            sender_kid=b"device",
            protection_alg=identifier(oids.PASSWORD_BASED_MAC, parameters),
        )
        body = encode_body(B.IR, [crmf(KEYS[0])])
        answer = admit(world.responder.handle(assemble(protected_part(header, B.IR, body), os.urandom(32))))
        assert said(answer) == (B.ERROR, F.BAD_DATA_FORMAT)
        assert answer.transaction_id == header.transaction_id
    assert world.store.certificates() == 0


def test_another_client_cannot_confirm(world: World) -> None:
    device, enemy = world.device(), world.device("enemy")
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    enemy.transaction_id, enemy.recip_nonce = device.transaction_id, device.recip_nonce
    assert said(enemy.confirm(certificate)) == (B.ERROR, F.BAD_REQUEST)
    rejection = PKIStatusInfo.make(PKIStatus.REJECTION, failure=F.BAD_ALG)
    assert said(enemy.confirm(certificate, status=rejection)) == (B.ERROR, F.BAD_REQUEST)
    assert said(enemy.send(B.CERT_CONF, [])) == (B.ERROR, F.BAD_REQUEST)
    assert said(device.confirm(certificate)) == (B.PKICONF, None)


def test_an_ip_from_a_client_plants_nothing(world: World) -> None:
    device = world.device()
    response = CertResponse(
        cert_req_id=0,
        status=PKIStatusInfo.make(PKIStatus.ACCEPTED),
        certified_key_pair=CertifiedKeyPair.of(world.ca.certificate),
    )
    content = CertRepMessage(ca_pubs=[tlv(world.ca.certificate)], response=[response])
    anchors = world.responder.trust.anchors if world.responder.trust else ()
    assert said(device.send(B.IP, content)) == (B.ERROR, F.BAD_REQUEST)
    assert world.responder.trust is not None
    assert world.responder.trust.anchors == anchors
    assert world.store.certificates() == 0


def test_an_unknown_reference_and_a_wrong_secret_look_the_same(world: World) -> None:
    known = world.device("known", "wrong")
    world.ca.remove_secret("known")
    answers = []
    for exists in (True, False):
        if exists:
            world.ca.add_secret("known", "right")
        else:
            world.ca.remove_secret("known")
        answers.append(
            known.ask(B.IR, crmf(KEYS[0]), transaction_id=bytes(16), sender_nonce=bytes(16), recip_nonce=None)
        )
    one, two = answers
    assert said(one) == said(two) == (B.ERROR, F.BAD_MESSAGE_CHECK)
    assert one.body_der == two.body_der
    headers = [encode(dataclasses.replace(each.header, sender_nonce=b"", message_time=None)) for each in (one, two)]
    assert headers[0] == headers[1]
    assert one.extra_certs == two.extra_certs
    assert len(status_of(one).text) == 1


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00", b"GET / HTTP/1.1", bytes(1000), b"\x30\x80\x00\x00", b"\x30\x84\xff\xff\xff\xff"]
)
def test_garbage_gets_a_signed_error_for_nobody(world: World, garbage: bytes) -> None:
    answer = admit(world.responder.handle(garbage))
    assert said(answer) == (B.ERROR, F.BAD_DATA_FORMAT)
    assert answer.recipient == b"0\x00"
    assert answer.transaction_id is None
    assert answer.recip_nonce is None
    verified = verify(answer, pinned=world.ca.certificate)
    assert verified.kind is ProtectionKind.SIGNATURE


def test_a_message_that_is_too_large_is_refused(world: World) -> None:
    assert said(admit(world.responder.handle(bytes(2 << 20)))) == (B.ERROR, F.BAD_DATA_FORMAT)


def test_dear_macs_are_refused_before_they_are_computed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from opensslcmp.context.protection import MacProtector
    from opensslcmp.credentials import MacParameters, SharedSecret

    device = world.device()
    device.credential = MacProtector(SharedSecret("device", "secret", parameters=MacParameters(iterations=100_000)))
    request = device.build(B.GENM, [])
    made: list[object] = []
    monkeypatch.setattr(protection, "_mac", lambda *arguments: made.append(arguments))
    assert said(admit(world.responder.handle(request))) == (B.ERROR, F.BAD_ALG)
    assert not made


@pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
def test_10000_broken_messages_issue_nothing_and_each_is_answered(world: World) -> None:
    chance = random.Random(9810)
    device = world.device()
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    open_certificate = certificate_of(device.ask(B.IR, crmf(KEYS[1])))
    confirmation = device.build(B.CERT_CONF, [conf(open_certificate)])
    other = world.device("other")
    originals = [confirmation]
    for sender in (other, signing):
        for body, content in (
            (B.IR, [crmf(KEYS[0])]),
            (B.P10CR, csr(KEYS[0])),
            (B.KUR, [crmf(KEYS[1], old=certificate)]),
            (B.RR, [revocation(certificate)]),
            (B.GENM, []),
        ):
            sender.begin()
            originals.append(sender.build(body, content))
    before = world.store.certificates(), world.store.revision()
    count = 10_000 if isinstance(world.store, MemoryStore) else 1_000
    kinds: dict[tuple[BodyType, FailureInfo | None], int] = {}
    for number in range(count):
        message = bytearray(chance.choice(originals))
        kind = number % 4
        if kind == 0:
            message = message[: chance.randrange(len(message))]
        elif kind == 1:
            for _ in range(chance.choice((1, 1, 1, 2, 8))):
                message[chance.randrange(len(message))] ^= 1 << chance.randrange(8)
        elif kind == 2:
            message = bytearray(chance.randbytes(chance.randrange(200)))
        else:
            at = chance.randrange(len(message))
            message[at : at + chance.randrange(1, 20)] = chance.randbytes(chance.randrange(20))
        if bytes(message) in originals:
            continue
        answer = admit(world.responder.handle(bytes(message)), limits=Limits(min_id_bytes=0))
        outcome = said(answer)
        kinds[outcome] = kinds.get(outcome, 0) + 1
        assert outcome[0] is B.ERROR, (outcome, bytes(message).hex())
        assert outcome[1] is not F.SYSTEM_FAILURE
    assert (world.store.certificates(), world.store.revision()) == before
    assert len(kinds) > 3
    # The process is alive, and so is the transaction that was open.
    assert said(admit(world.responder.handle(confirmation))) == (B.PKICONF, None)


def test_a_namesake_of_the_ca_updates_nobodys_certificate(
    make: Callable[..., World], root: tuple[bytes, PrivateKey], tmp_path: Path
) -> None:
    namesake = CA.create(tmp_path / "namesake", "CN=Test CA")
    namesake.close()
    key = PrivateKey.load(tmp_path / "namesake" / "ca.key")
    world = make(trust=Trust([root[0], namesake.certificate]))
    victim = world.device().enroll(KEYS[0], "CN=victim")
    tbs = decode(Certificate, victim).tbs
    key_id = facts(namesake.certificate).key_id
    assert key_id is not None
    authority_key = Extension(extn_id=x509.ObjectIdentifier("2.5.29.35"), extn_value=wrap(0x30, wrap(0x80, key_id)))
    forged = dataclasses.replace(tbs, subject_public_key_info=tlv(KEYS[1].public_key_der), extensions=[authority_key])
    how = key.signature_algorithm()
    certificate = attach_signature(encode(forged), how, key.sign(encode(forged), how))
    thief = world.device().signing(certificate, KEYS[1])
    for body in BodyType.KUR, BodyType.CR:
        answer = thief.ask(body, crmf(KEYS[2], "CN=victim"))
        assert said(answer) == (BodyType.ERROR, FailureInfo.SIGNER_NOT_TRUSTED)
    assert (
        said(world.device().signing(victim, KEYS[0]).ask(BodyType.KUR, crmf(KEYS[2], "CN=victim")))[0] is BodyType.KUP
    )
