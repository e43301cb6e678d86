"""KEM-based MACs between Session and Responder: the flows of RFC 9810, appendix E, and what goes wrong in them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from opensslcmp import Context, KemCredential, PrivateKey, ProtectionKind, Rejected, Session, SharedSecret, Signer
from opensslcmp.asn1 import (
    InfoTypeAndValue,
    KemCiphertextInfo,
    admit,
    assemble,
    encode_body,
    make_header,
    oids,
    protected_part,
)
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.protection import protector_for
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.errors import ProtectionError
from opensslcmp.server import Responder
from opensslcmp.transport import InProcess
from tests.server.device import Device, certificate_of, crmf, extension, said
from tests.server.world import World, fresh_world

KINDS = ["rsa:2048", *(pytest.param(f"ml-kem-{size}", marks=pytest.mark.needs("3.5")) for size in (512, 768, 1024))]
USAGE = extension(
    x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    ),
    critical=True,
)


@functools.cache
def key(kind: str, number: int = 0) -> PrivateKey:
    return PrivateKey.generate(kind)


@dataclasses.dataclass
class Site:
    """A world, and who has a KEM key in it."""

    world: World
    client: KemCredential
    server: KemCredential
    handle: Callable[[bytes], bytes]
    seen: list[tuple[bytes, bytes]]

    def session(self, credential: Any, **options: Any) -> Session:
        ca = self.world.ca.certificate
        return Session(Context(credential=credential, trusted=[ca], **options), transport=InProcess(self))


def site(kind: str, *, signer: bool = True, own: bool = False, **options: Any) -> Site:
    """A server that signs, has a KEM key of its own, or both; and a KEM certificate for each end."""
    world = fresh_world()
    ra_key = key("ec:P-256")
    ra = world.device("ra").enroll(ra_key, "CN=ra")
    issuing = world.again(registration_authorities=[facts(ra).fingerprint])
    desk = Device(issuing.handle, protector_for(Signer(ra, ra_key)), world.clock)
    found = []
    for number, subject in enumerate(("CN=client", "CN=server")):
        asked = crmf(key(kind, number), subject, popo="raVerified", extensions=[USAGE])
        certificate = certificate_of(desk.ask(BodyType.CR, asked))
        desk.confirm(certificate)
        found.append(KemCredential(certificate, key(kind, number)))
    client, server = found
    responder = Responder(
        world.ca,
        world.store,
        world.ca.signer if signer else server,
        kem=server if own else None,
        secrets=world.ca.secrets.find,
        trust=Trust([world.ca.certificate]),
        clock=world.clock,
        **options,
    )
    seen: list[tuple[bytes, bytes]] = []

    def handle(request: bytes) -> bytes:
        seen.append((request, responder.handle(request)))
        return seen[-1][1]

    return Site(world, client, server, handle, seen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_with_a_kem_key_enrolls_updates_and_revokes(kind: str) -> None:
    here = site(kind)
    session = here.session(here.client)
    issued = session.enroll("CN=new", generate="ec:P-256", kind="cr")
    assert issued.protection.kind is ProtectionKind.SIGNATURE
    updated = session.update(generate="ec:P-256")
    assert updated.certificate.subject.rfc4514_string() == "CN=client"
    messages = [admit(each) for pair in here.seen for each in pair]
    kinds = [(each.body_type, each.protection_algorithm) for each in messages]
    kem = oids.KEM_BASED_MAC
    assert kinds[:2] == [(BodyType.GENM, None), (BodyType.GENP, None)]
    assert [algorithm for _, algorithm in kinds[2::2]][:2] == [kem, kem]  # cr and certConf
    assert len({each.transaction_id for each in messages[:6]}) == 1
    assert {each.header.pvno for each in messages} == {3}
    assert messages[2].recip_nonce == messages[1].sender_nonce


def test_a_client_with_a_kem_key_revokes_its_certificate() -> None:
    here = site("rsa:2048")
    revoked = here.session(here.client).revoke(reason=RevocationReason.KEY_COMPROMISE)
    assert revoked.protection.kind is ProtectionKind.SIGNATURE
    with pytest.raises(ProtectionError, match="no KEM ciphertext"):
        here.session(here.client).enroll("CN=new", generate="ec:P-256")


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_with_a_kem_key_answers_who_encapsulates_to_it(kind: str) -> None:
    here = site(kind, own=True)
    session = here.session(SharedSecret("ra", "secret"), kem_certificate=here.server.certificate)
    issued = session.enroll("CN=new", generate="ec:P-256")
    assert issued.protection.kind is ProtectionKind.KEM
    assert issued.protection.signer is not None
    assert issued.protection.signer.subject.rfc4514_string() == "CN=server"
    requests = [admit(request) for request, _ in here.seen]
    assert requests[0].header.info(oids.IT_KEM_CIPHERTEXT_INFO) is not None
    assert requests[1].header.info(oids.IT_KEM_CIPHERTEXT_INFO) is None  # the secret serves the whole transaction
    assert {admit(answer).protection_algorithm for _, answer in here.seen} == {oids.KEM_BASED_MAC}


def test_a_server_that_also_signs_does_so_for_everybody_else() -> None:
    here = site("rsa:2048", own=True)
    signer = Signer(
        here.session(SharedSecret("ra", "secret")).enroll("CN=x", key("ec:P-256", 5)).certificate, key("ec:P-256", 5)
    )
    issued = here.session(signer).enroll("CN=new", generate="ec:P-256")
    assert issued.protection.kind is ProtectionKind.SIGNATURE


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_with_nothing_but_a_kem_key_says_so(kind: str) -> None:
    here = site(kind, signer=False)
    own = key("ec:P-256", 7)
    signer = Signer(here.session(SharedSecret("ra", "secret")).enroll("CN=x", own).certificate, own)
    here.seen.clear()
    issued = here.session(signer).enroll("CN=new", generate="ec:P-256")
    assert issued.protection.kind is ProtectionKind.KEM
    first = admit(here.seen[0][1])
    assert said(first) == (BodyType.ERROR, FailureInfo.WRONG_INTEGRITY)
    assert (first.protection, first.extra_certs[0]) == (None, here.server.certificate)
    assert admit(here.seen[1][0]).transaction_id != first.transaction_id


@pytest.mark.parametrize("kind", KINDS)
def test_both_ends_may_have_nothing_but_a_kem_key(kind: str) -> None:
    here = site(kind, signer=False)
    session = here.session(here.client)
    issued = session.enroll("CN=new", generate="ec:P-256")
    assert issued.protection.kind is ProtectionKind.KEM
    answers = [admit(answer) for _, answer in here.seen]
    # Its certificate came with the ciphertext, so nobody has to be told.
    assert [each.body_type for each in answers] == [BodyType.GENP, BodyType.IP, BodyType.PKICONF]
    assert session.request_info(oids.IT_CA_CERTS)
    assert session.update(generate="ec:P-256").protection.kind is ProtectionKind.KEM


def test_a_transaction_goes_on_where_it_was_saved() -> None:
    here = site("rsa:2048", wait_seconds=3600)
    from opensslcmp.server.authority import Pending

    asked: list[Any] = []
    issue = here.world.ca.issue

    def later(request: Any) -> Any:
        asked.append(request)
        return Pending(check_after_seconds=1) if len(asked) == 1 else issue(request)

    here.world.ca.issue = later  # type: ignore[method-assign]
    own = key("ec:P-256", 9)
    pending: Any = here.session(here.client).enroll("CN=new", own, wait=False)
    saved = pending.save()
    issued: Any = here.session(here.client).resume(type(pending).load(saved), own)
    assert issued.certificate.subject.rfc4514_string() == "CN=new"


# -- what goes wrong -------------------------------------------------------------------------------------------------


def question(here: Site, certificates: list[bytes], **fields: Any) -> bytes:
    about = facts(here.client.certificate)
    header = make_header(
        sender=fields.pop("sender", about.subject),
        recipient=b"0\0",
        transaction_id=fields.pop("transaction_id", b"0123456789abcdef"),
        sender_nonce=fields.pop("nonce", b"nonce of genm 00"),
        pvno=3,
    )
    body = encode_body(BodyType.GENM, fields.pop("items", [InfoTypeAndValue.make(oids.IT_KEM_CIPHERTEXT_INFO)]))
    return assemble(protected_part(header, BodyType.GENM, body), None, certificates)


def test_a_question_that_is_repeated_gets_the_same_ciphertext_and_another_none() -> None:
    here = site("rsa:2048")
    asked = question(here, [here.client.certificate])
    first = here.handle(asked)
    assert admit(first).body_type is BodyType.GENP
    assert here.handle(asked) == first
    other = admit(here.handle(question(here, [here.client.certificate], nonce=b"nonce of genm 01")))
    assert said(other) == (BodyType.ERROR, FailureInfo.TRANSACTION_ID_IN_USE)


def test_only_a_trusted_kem_certificate_gets_a_ciphertext() -> None:
    here = site("rsa:2048")
    stranger = fresh_world()
    theirs = stranger.device("x").enroll(key("ec:P-256"), "CN=client")
    for certificates, failure in (
        ([], FailureInfo.BAD_MESSAGE_CHECK),
        ([theirs], FailureInfo.BAD_ALG),
        ([here.server.certificate], FailureInfo.BAD_MESSAGE_CHECK),  # the sender is another
    ):
        answer = admit(here.handle(question(here, certificates)))
        assert said(answer) == (BodyType.ERROR, failure)


def test_an_unprotected_genm_that_asks_for_more_is_refused() -> None:
    here = site("rsa:2048")
    items = [InfoTypeAndValue.make(oids.IT_KEM_CIPHERTEXT_INFO), InfoTypeAndValue.make(oids.IT_CA_CERTS)]
    answer = admit(here.handle(question(here, [here.client.certificate], items=items)))
    assert said(answer) == (BodyType.ERROR, FailureInfo.WRONG_INTEGRITY)


def test_who_only_copied_a_certificate_cannot_ask() -> None:
    here = site("rsa:2048")
    thief = KemCredential(here.client.certificate, key("rsa:2048", 0))
    protector: Any = protector_for(thief)
    protector.key = key("rsa:2048", 1)  # what the certificate is not for
    session = here.session(protector)
    with pytest.raises(Rejected) as caught:
        session.enroll("CN=new", generate="ec:P-256")
    assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK


def test_a_kem_based_mac_in_another_transaction_does_not_verify() -> None:
    here = site("rsa:2048")
    answer = admit(here.handle(question(here, [here.client.certificate])))
    info = answer.content()[0].info_value.parse(KemCiphertextInfo)
    protector: Any = protector_for(here.client)
    device = Device(here.handle, protector.of_one_transaction(info, b"0123456789abcdef"), here.world.clock)
    refused = device.ask(BodyType.CR, crmf(key("ec:P-256"), "CN=new"), pvno=3)
    assert said(refused) == (BodyType.ERROR, FailureInfo.BAD_MESSAGE_CHECK)
    accepted = device.ask(BodyType.CR, crmf(key("ec:P-256"), "CN=new"), pvno=3, transaction_id=b"0123456789abcdef")
    assert certificate_of(accepted)


def test_another_worker_goes_on_when_they_share_a_sealer() -> None:
    here = site("rsa:2048", sealer=fresh_world().ca.secrets._sealer)
    shared = here.world.again(sealer=fresh_world().ca.secrets._sealer)
    alone = here.world.again()
    for responder, failure in ((shared, None), (alone, FailureInfo.BAD_MESSAGE_CHECK)):
        tid = b"0123456789abcde" + (b"s" if failure is None else b"a")
        answer = admit(here.handle(question(here, [here.client.certificate], transaction_id=tid)))
        info = answer.content()[0].info_value.parse(KemCiphertextInfo)
        protector: Any = protector_for(here.client)
        device = Device(responder.handle, protector.of_one_transaction(info, tid), here.world.clock)
        got = device.ask(BodyType.CR, crmf(key("ec:P-256"), "CN=new"), pvno=3, transaction_id=tid)
        assert said(got) == (BodyType.CP if failure is None else BodyType.ERROR, failure)


def test_a_secret_is_sealed_in_the_store() -> None:
    here = site("rsa:2048")
    answer = admit(here.handle(question(here, [here.client.certificate])))

    from opensslcmp.context.kem import decapsulate
    from opensslcmp.server.kem import Agreements

    secret = decapsulate(key("rsa:2048", 0), answer.content()[0].info_value.parse(KemCiphertextInfo))
    record, _ = here.world.store.look(Agreements.place(b"0123456789abcdef"), b"")
    assert record is not None
    assert record.request is not None
    assert secret not in record.request
