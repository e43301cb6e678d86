"""Messages that are nearly right, each with a protection that is: every one is answered, and none by systemFailure.

How many there are, and how they are chosen: docs/testing.md.
"""

from __future__ import annotations

import copy
import ipaddress
import logging
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.asn1 import (
    ErrorMsgContent,
    InfoTypeAndValue,
    Limits,
    PKIStatusInfo,
    admit,
    assemble,
    encode,
    encode_body,
    make_header,
    oids,
    protected_part,
    wrap,
)
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import protect, protector_for
from opensslcmp.credentials import Signer
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from tests.server.device import (
    IMPLICIT,
    KEYS,
    Device,
    conf,
    crmf,
    cross,
    csr,
    extension,
    name,
    poll_request,
    revocation,
    status_of,
)
from tests.server.mutations import mutated
from tests.server.world import World, other_ca

B, F = BodyType, FailureInfo
COUNT = int(os.environ.get("OPENSSLCMP_MUTATIONS", "3000"))
SEED = int(os.environ.get("OPENSSLCMP_SEED", "9810"))
ANY_ID = Limits(min_id_bytes=0)  # what is answered has the ids of the request, whatever they are
FOLLOWING = {B.CERT_CONF, B.POLL_REQ, B.ERROR}


@pytest.fixture
def crossing(make: Callable[..., World]) -> World:
    """A world that cross-certifies."""
    return make(cross_certification=Trust([other_ca()[0]]))


def contents(world: World, certificate: bytes) -> list[tuple[BodyType, bytes]]:
    """Bodies of all types that a server takes."""
    names = x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))])
    extensions = [
        extension(names),
        extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False)),
        extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")])),
        extension(x509.BasicConstraints(False, None)),
    ]
    ca, key = other_ca()
    status = PKIStatusInfo.make(PKIStatus.REJECTION, "no", failure=F.BAD_ALG)
    point = wrap(0xA1, wrap(0xA4, name("CN=Test CA")))
    infos = [InfoTypeAndValue.make(value) for oid, value in sorted(vars(oids).items()) if oid.startswith("IT_")]
    infos += [
        InfoTypeAndValue.make(oids.IT_SUPP_LANG_TAGS, wrap(0x30, b"\x0c\x02en")),
        InfoTypeAndValue.make(oids.IT_ROOT_CA_CERT, certificate),
        InfoTypeAndValue.make(oids.IT_CRL_STATUS_LIST, wrap(0x30, wrap(0x30, point))),
    ]
    made: list[tuple[BodyType, Any]] = [
        (B.IR, [crmf(KEYS[1], extensions=extensions)]),
        (B.CR, [crmf(KEYS[1]), crmf(KEYS[2], request_id=1)]),
        (B.P10CR, csr(KEYS[1])),
        (B.KUR, [crmf(KEYS[1], old=certificate)]),
        (B.RR, [revocation(certificate)]),
        (B.CCR, [cross(key, ca, key.signature_algorithm(), world.clock())]),
        (B.CERT_CONF, [conf(certificate)]),
        (B.POLL_REQ, poll_request()),
        *((B.GENM, [info]) for info in infos),
    ]
    error = encode(ErrorMsgContent(pki_status_info=status))
    return [*((kind, encode_body(kind, content)) for kind, content in made), (B.ERROR, error)]


@pytest.mark.timeout(0)
def test_bodies_that_are_nearly_right_are_answered(crossing: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "opensslcmp.server")
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    device = crossing.device()
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    ca, key = other_ca()
    abroad = Device(device.handle, protector_for(Signer(ca, key)), device.clock)
    bodies = contents(crossing, certificate)
    of_type = {kind: [body for each, body in bodies if each is kind] for kind, _ in bodies}
    kept = {at: copy.copy(value) for at, value in vars(crossing.store).items() if isinstance(value, (dict, int))}
    kinds: Counter[tuple[str, str]] = Counter()
    for _ in range(COUNT):
        kind = chance.choice(list(of_type))
        body = mutated(chance, chance.choice(of_type[kind]))
        sender = abroad if kind is B.CCR else device if kind in FOLLOWING else chance.choice((device, signing))
        sender.begin()
        if kind in FOLLOWING:
            sender.ask(B.IR, crmf(KEYS[1]))
        header = make_header(
            sender=sender.credential.sender_name,
            recipient=b"0\0",
            transaction_id=sender.transaction_id,
            sender_nonce=os.urandom(16),
            recip_nonce=sender.recip_nonce,
            general_info=[IMPLICIT] if chance.random() < 0.5 else [],
        )
        request = protect(header, kind, body, sender.credential)
        if chance.random() < 0.1:
            outer = make_header(
                sender=sender.credential.sender_name,
                recipient=b"0\0",
                transaction_id=os.urandom(16),
                sender_nonce=os.urandom(16),
            )
            request = protect(outer, B.NESTED, wrap(0x30, request), sender.credential)
        answer = admit(device.handle(request), limits=ANY_ID)
        failures = status_of(answer).failures if answer.body_type is B.ERROR else ()
        assert F.SYSTEM_FAILURE not in failures, request.hex()
        assert not caplog.records, (caplog.text, request.hex())
        kinds[kind.name, answer.body_type.name] += 1
        for at, value in kept.items():  # no certificate is revoked, no transaction is one too many
            setattr(crossing.store, at, copy.copy(value))
    # Some of each were near enough to be granted.
    for granted in ("IR", "IP"), ("CR", "CP"), ("P10CR", "CP"), ("KUR", "KUP"), ("RR", "RP"), ("CERT_CONF", "PKICONF"):
        assert kinds[granted], kinds


@pytest.mark.timeout(0)
def test_messages_that_are_nearly_right_are_answered(crossing: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "opensslcmp.server")
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    device = crossing.device()
    certificate = device.enroll(KEYS[0])
    originals = []
    for kind, body in contents(crossing, certificate):
        for sender in (device, device.signing(certificate, KEYS[0])):
            header = make_header(
                sender=sender.credential.sender_name,
                recipient=b"0\0",
                transaction_id=os.urandom(16),
                sender_nonce=os.urandom(16),
                recip_nonce=os.urandom(16),
                general_info=[IMPLICIT, InfoTypeAndValue.make(oids.IT_CERT_PROFILE, wrap(0x30, b"\x0c\x07default"))],
            )
            originals.append(protect(header, kind, body, sender.credential))
    for _ in range(COUNT):
        request = mutated(chance, chance.choice(originals))
        answer = admit(device.handle(request), limits=ANY_ID)
        if answer.body_type is B.ERROR:
            assert F.SYSTEM_FAILURE not in status_of(answer).failures, request.hex()
        assert not caplog.records, (caplog.text, request.hex())


@pytest.mark.parametrize("tag", [b"\x1f\x1f", b"\xbf\x1f", b"\xbf\x81\x01", b"\x30", b"\xa9"], ids=bytes.hex)
@pytest.mark.parametrize("protected", [False, True])
def test_a_sender_that_is_no_name_is_answered_to_nobody(world: World, tag: bytes, protected: bool) -> None:
    device = world.device()
    request = device.build(B.GENM, [], protected=False)
    told = wrap(0xA4, device.credential.sender_name)
    header, body = admit(request, limits=ANY_ID).header_der, admit(request).body_der
    assert header.count(told) == 1
    inside = header[2:].replace(told, tag + told[1:])
    other = wrap(0x30, inside)
    part = protected_part(other, B.GENM, body)
    answer = admit(device.handle(assemble(part, os.urandom(32) if protected else None)))
    assert (answer.body_type, status_of(answer).failures) == (B.ERROR, (F.BAD_DATA_FORMAT,))
    assert answer.transaction_id == device.transaction_id
    assert answer.recip_nonce == device.sender_nonce
    assert answer.recipient == b"0\0"
