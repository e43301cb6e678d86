"""The gate, and every decoder behind it: nothing but BadMessage and ValueError comes out of them."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opensslcmp import asn1
from opensslcmp.asn1 import Limits, admit, cms, decode, outline, raw_cert_requests
from opensslcmp.asn1.bodies import decode_body
from opensslcmp.asn1.inspect import describe, render
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.cms import PasswordRecipient, Recipient, open_enveloped, seal, verify_signed_data
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType
from opensslcmp.errors import BadMessage, CMPError, ProtectionError
from tests.context.issuing import INTER, ROOT, certificate, crl, der, key
from tests.fuzz.engine import Target

MESSAGES = [path.read_bytes() for path in sorted((Path(__file__).parent.parent / "data" / "cmp").glob("*.der"))]


def look_into(message: asn1.Message) -> None:
    """All that is asked of a message."""
    for name in ("sender", "recipient", "transaction_id", "protection_algorithm", "message_time", "implicit_confirm"):
        getattr(message, name)
    for name in ("confirm_wait_time", "cert_profile"):
        with contextlib.suppress(BadMessage):
            getattr(message, name)
    with contextlib.suppress(BadMessage):
        message.content()
        if message.body_type in {BodyType.IR, BodyType.CR, BodyType.KUR, BodyType.CCR}:
            raw_cert_requests(message.body_der)
        if message.body_type is BodyType.NESTED:
            for inner in message.nested():
                look_into(inner)


@contextlib.contextmanager
def gate() -> Iterator[Target]:
    """A whole message."""

    def run(_: random.Random, data: bytes) -> None:
        for limits in (Limits(), Limits(max_message_bytes=4000, max_requests=1, max_infos=1, max_extra_certs=1)):
            with contextlib.suppress(BadMessage):
                look_into(admit(data, limits=limits))

    yield Target(name="gate", seeds=MESSAGES, run=run, quick=True)


def _structures() -> list[Any]:
    found = {each for module in (asn1, cms) for _, each in inspect.getmembers(module, inspect.isclass)}
    return sorted([each for each in found if hasattr(each, "__asn1_root__")], key=lambda each: each.__name__)


@contextlib.contextmanager
def structures() -> Iterator[Target]:
    """A body of any type, or any structure, by the first byte."""
    kinds: list[Any] = [*BodyType, *_structures()]
    assert len(kinds) > 50

    def run(_: random.Random, data: bytes) -> None:
        if not data:
            return
        kind = kinds[data[0] % len(kinds)]
        with contextlib.suppress(ValueError, BadMessage):
            if isinstance(kind, BodyType):
                decode_body(kind, data[1:])
            else:
                decode(kind, data[1:])

    bodies = []
    for message in map(admit, MESSAGES):
        bodies.append(bytes([kinds.index(message.body_type)]) + message.body_der)
        bodies.append(bytes([kinds.index(asn1.PKIHeader)]) + message.header_der)
        bodies += [bytes([kinds.index(asn1.Certificate)]) + each for each in message.extra_certs]
    yield Target(name="structures", seeds=bodies, run=run, der=False, quick=True)


@contextlib.contextmanager
def inspecting() -> Iterator[Target]:
    """``opensslcmp inspect``."""

    def run(_: random.Random, data: bytes) -> None:
        with contextlib.suppress(BadMessage, ValueError):
            render(describe(data))

    yield Target(name="inspect", seeds=MESSAGES, run=run, quick=True)


@contextlib.contextmanager
def certificates() -> Iterator[Target]:
    """Certificates of a peer, up to libcrypto's own decoder."""
    leaf = certificate("leaf", key(), "intermediate", key("ec", 101))
    trust = Trust(ROOT, cache_size=1)
    inter = der(INTER)

    def run(chance: random.Random, data: bytes) -> None:
        with contextlib.suppress(ValueError):
            outline(data)
        with contextlib.suppress(ProtectionError):
            facts(data)
        trust.forget()
        others = [inter, data] if chance.random() < 0.5 else [data]
        for subject, untrusted in ((data, [inter]), (der(leaf), others)):
            with contextlib.suppress(ProtectionError):
                trust.path(subject, untrusted)
        with contextlib.suppress(ValueError, CMPError):
            Trust(ROOT, crls=[data])

    yield Target(name="certificates", seeds=[der(leaf), inter, der(ROOT), der(crl("root", key("ec", 100)))], run=run)


@contextlib.contextmanager
def envelopes() -> Iterator[Target]:
    """Keys that were generated or decrypted elsewhere: EnvelopedData under every kind of key and under a password."""
    content = b"what is inside"
    secrets: list[PrivateKey | bytes] = [b"secret"]
    seeds = [bytes([0]) + seal(content, PasswordRecipient(secret=b"secret", iterations=10))]
    for kind in ("rsa", "ec"):
        usage = "key_encipherment" if kind == "rsa" else "key_agreement"
        own = key(kind, 500)
        holder = der(certificate(kind, own, "intermediate", key("ec", 101), usage=usage))
        seeds.append(bytes([len(secrets)]) + seal(content, Recipient.of(holder)))
        secrets.append(PrivateKey.load(own))
    trust = Trust(ROOT)

    def run(_: random.Random, data: bytes) -> None:
        if not data:
            return
        with contextlib.suppress(BadMessage):
            assert open_enveloped(data[1:], secrets[data[0] % len(secrets)]) is not None
        with contextlib.suppress(BadMessage, ProtectionError):
            verify_signed_data(data[1:], content_type="1.2.840.113549.1.7.1", trust=trust)

    yield Target(name="envelopes", seeds=seeds, run=run)
