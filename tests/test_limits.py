"""Each bound on what a peer may make us do: below, at and above its value, and before the step that it is there for."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from opensslcmp.asn1 import (
    InfoTypeAndValue,
    Limits,
    Message,
    PBMParameter,
    admit,
    algorithm,
    assemble,
    encode,
    encode_body,
    make_header,
    oids,
    protected_part,
    wrap,
)
from opensslcmp.asn1.common import count
from opensslcmp.context import protection
from opensslcmp.context.keys import KeyBounds, PrivateKey, verify_signature
from opensslcmp.context.protection import MacLimits, MacProtector, ProtectionKind, protect_message, verify
from opensslcmp.credentials import MacParameters, SharedSecret
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, ProtectionError
from tests.context.issuing import message as issued_message
from tests.server.device import KEYS, crmf, name, said
from tests.server.test_dearest import Counting
from tests.server.world import fresh_world

B, F = BodyType, FailureInfo
INFO = InfoTypeAndValue.make(oids.IT_CA_CERTS)
ITERATIONS, SALT = 7, 9


def gate(**fields: Any) -> Limits:
    """Bounds of the gate."""
    return Limits(**fields)


def macs(**fields: Any) -> MacLimits:
    """Bounds of MACs."""
    return MacLimits(**fields)


def build(kind: BodyType, body: bytes, **fields: Any) -> bytes:
    """A message whose sizes are known."""
    parameters = PBMParameter(
        salt=bytes(SALT),
        owf=algorithm("2.16.840.1.101.3.4.2.1"),
        iteration_count=ITERATIONS,
        mac=algorithm("1.2.840.113549.2.9"),
    )
    values: dict[str, Any] = {
        "sender": name("CN=a sender of some length"),
        "recipient": b"0\0",
        "transaction_id": os.urandom(16),
        "sender_nonce": os.urandom(16),
        "recip_nonce": os.urandom(16),
        "sender_kid": b"k" * 20,
        "protection_alg": algorithm(oids.PASSWORD_BASED_MAC, encode(parameters)),
        "general_info": [InfoTypeAndValue.make(f"1.2.3.{number}") for number in range(3)],
    }
    header = dataclasses.replace(make_header(**(values | fields)), free_text=["abc", "de"])
    certificates = [wrap(0x30, bytes(38)), wrap(0x30, bytes(20))]
    return assemble(protected_part(header, kind, body), bytes(25), certificates)


REQUESTS = encode_body(B.IR, [crmf(KEYS[0]), crmf(KEYS[1], request_id=1)])
GENM = build(B.GENM, encode_body(B.GENM, [INFO, INFO]))
IR = build(B.IR, REQUESTS)


def nested(depth: int, width: int = 1) -> bytes:
    """Messages in messages."""
    inner = GENM
    for _ in range(depth):
        inner = build(B.NESTED, wrap(0x30, inner * width))
    return inner


def innermost(message: Message) -> None:
    """Open all of it."""
    for each in message.nested() if message.body_type is B.NESTED else ():
        innermost(each)


def content(message: Message) -> None:
    """Decode the body."""
    message.content()


Step = Callable[[Message], object]
# What a message has of it; the message; what is done with it; what is said when it is too much.
MOST: dict[str, tuple[int, bytes, Step, FailureInfo]] = {
    "max_message_bytes": (len(GENM), GENM, content, F.BAD_DATA_FORMAT),
    "max_header_bytes": (len(admit(GENM).header_der), GENM, content, F.BAD_DATA_FORMAT),
    "max_id_bytes": (16, GENM, content, F.BAD_REQUEST),
    "max_kid_bytes": (20, GENM, content, F.BAD_DATA_FORMAT),
    "max_name_bytes": (len(name("CN=a sender of some length")), GENM, content, F.BAD_DATA_FORMAT),
    "max_free_text": (2, GENM, content, F.BAD_DATA_FORMAT),
    "max_text_bytes": (5, GENM, content, F.BAD_DATA_FORMAT),
    "max_general_info": (3, GENM, content, F.BAD_DATA_FORMAT),
    "max_extra_certs": (2, GENM, content, F.BAD_DATA_FORMAT),
    "max_certificate_bytes": (40, GENM, content, F.BAD_DATA_FORMAT),
    "max_protection_bytes": (25, GENM, content, F.BAD_DATA_FORMAT),
    "max_mac_iterations": (ITERATIONS, GENM, content, F.BAD_ALG),
    "max_salt_bytes": (SALT, GENM, content, F.BAD_ALG),
    "max_requests": (2, IR, content, F.BAD_REQUEST),
    "max_infos": (2, GENM, content, F.BAD_REQUEST),
    "max_body_elements": (count(REQUESTS, 10_000, 12), IR, content, F.BAD_DATA_FORMAT),
    "max_nested_messages": (3, nested(1, 3), innermost, F.BAD_REQUEST),
    "max_nested_depth": (2, nested(2), innermost, F.BAD_REQUEST),
}
LEAST: dict[str, tuple[int, bytes, FailureInfo]] = {
    "min_id_bytes": (16, GENM, F.BAD_REQUEST),
    "min_mac_iterations": (ITERATIONS, GENM, F.BAD_ALG),
}
OTHERS = {"versions", "require_transaction_id"}


def test_every_bound_of_the_gate_has_its_row() -> None:
    assert {each.name for each in dataclasses.fields(Limits)} == MOST.keys() | LEAST.keys() | OTHERS


@pytest.mark.parametrize("field", MOST)
def test_as_much_as_the_bound_passes_the_gate_and_one_more_does_not(field: str) -> None:
    value, data, step, failure = MOST[field]
    for bound in value + 1, value:
        step(admit(data, limits=gate(**{field: bound})))
    with pytest.raises(BadMessage) as caught:
        step(admit(data, limits=gate(**{field: value - 1})))
    assert caught.value.failure is failure


@pytest.mark.parametrize("field", LEAST)
def test_as_little_as_the_bound_passes_the_gate_and_one_less_does_not(field: str) -> None:
    value, data, failure = LEAST[field]
    for bound in value - 1, value:
        admit(data, limits=gate(**{field: bound}))
    with pytest.raises(BadMessage) as caught:
        admit(data, limits=gate(**{field: value + 1}))
    assert caught.value.failure is failure


@pytest.mark.parametrize(
    ("pvno", "failure"), [(1, F.UNSUPPORTED_VERSION), (2, None), (3, None), (4, F.UNSUPPORTED_VERSION)]
)
def test_versions(pvno: int, failure: FailureInfo | None) -> None:
    data = build(B.GENM, encode_body(B.GENM, [INFO]), pvno=pvno)
    if failure is None:
        admit(data)
        return
    with pytest.raises(BadMessage) as caught:
        admit(data)
    assert caught.value.failure is failure


def test_a_transaction_id_that_is_not_there() -> None:
    data = build(B.GENM, encode_body(B.GENM, [INFO]), transaction_id=None)
    admit(data, limits=Limits(require_transaction_id=False))
    with pytest.raises(BadMessage):
        admit(data)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    found: Counter[str] = Counter()
    monkeypatch.setattr(protection, "lib", Counting(vars(protection)["lib"], found))
    return found


HEADER = [
    each
    for each, (_, _, step, _) in MOST.items()
    if step is content and not each.startswith(("max_req", "max_inf", "max_body"))
]


@pytest.mark.parametrize("field", HEADER)
def test_the_gate_refuses_before_any_mac_is_computed(field: str, calls: Counter[str]) -> None:
    value, data, _, failure = MOST[field]
    world = fresh_world(limits=gate(**{field: value - 1}))
    assert said(admit(world.responder.handle(data), limits=Limits(min_id_bytes=0))) == (B.ERROR, failure)
    assert calls["opensslcmp_pbm"] == 0
    assert fresh_world(limits=gate(**{field: value})).responder.handle(data)
    assert calls["opensslcmp_pbm"] == 1


MACS: dict[str, tuple[int, str, bool]] = {
    "min_iterations": (50, "pbm", False),
    "max_iterations": (50, "pbm", True),
    "max_pbkdf2_iterations": (50, "pbmac1", True),
    "min_salt_bytes": (16, "pbm", False),
    "max_salt_bytes": (16, "pbm", True),
}


def test_every_bound_of_macs_has_its_row() -> None:
    assert {each.name for each in dataclasses.fields(MacLimits)} == MACS.keys() | {"digests"}


@pytest.mark.parametrize("field", MACS)
def test_bounds_of_macs_hold_before_the_mac_is_computed(field: str, calls: Counter[str]) -> None:
    value, scheme, most = MACS[field]
    secret = SharedSecret("reference", "secret", parameters=MacParameters(iterations=50, scheme=scheme))
    data = admit(issued_message(MacProtector(secret)))
    calls.clear()
    step = 1 if most else -1
    with pytest.raises(ProtectionError) as caught:
        verify(data, secrets=lambda _: secret, limits=macs(**{field: value - step}))
    assert caught.value.failure is F.BAD_ALG
    assert not calls
    for bound in value, value + step:
        verify(data, secrets=lambda _: secret, limits=macs(**{field: bound}))
    assert calls == {"opensslcmp_keyed_mac": 2}  # with the key that was derived when the message was made


@pytest.mark.parametrize("digests", [{"SHA256"}, {"SHA1"}])
def test_digests_of_macs_hold_before_the_mac_is_computed(digests: set[str], calls: Counter[str]) -> None:
    secret = SharedSecret("reference", "secret", parameters=MacParameters(iterations=50))
    data = admit(issued_message(MacProtector(secret)))
    calls.clear()
    if "SHA256" in digests:
        verify(data, secrets=lambda _: secret, limits=MacLimits(digests=frozenset(digests)))
        return
    with pytest.raises(ProtectionError) as caught:
        verify(data, secrets=lambda _: secret, limits=MacLimits(digests=frozenset(digests)))
    assert caught.value.failure is F.BAD_ALG
    assert not calls


@pytest.mark.parametrize(
    ("bounds", "accepted"),
    [
        (KeyBounds(2047, 8192), True),
        (KeyBounds(2048, 8192), True),
        (KeyBounds(2049, 8192), False),
        (KeyBounds(1024, 2049), True),
        (KeyBounds(1024, 2048), True),
        (KeyBounds(1024, 2047), False),
    ],
)
def test_bounds_of_rsa_keys(bounds: KeyBounds, accepted: bool) -> None:
    key = PrivateKey.generate("rsa:2048")
    how = key.signature_algorithm()
    signature = key.sign(b"data", how)
    if accepted:
        verify_signature(key.public_key_der, how, b"data", signature, bounds=bounds)
        return
    with pytest.raises(ProtectionError, match="a key that may not verify") as caught:
        verify_signature(key.public_key_der, how, b"data", signature, bounds=bounds)
    assert caught.value.failure is F.BAD_ALG


@pytest.mark.parametrize("mac", ["hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"])
@pytest.mark.parametrize("scheme", ["pbm", "pbmac1"])
def test_what_a_client_uses_unless_told_otherwise_is_within_what_a_server_takes(scheme: str, mac: str) -> None:
    secret = SharedSecret("device", "secret of the device", parameters=MacParameters(scheme=scheme, mac=mac))
    message = protect_message(build(B.GENM, encode_body(B.GENM, [INFO])), secret)
    assert verify(admit(message), secrets=lambda _: secret).kind is ProtectionKind.MAC
