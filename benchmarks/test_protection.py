"""Protecting and verifying one message."""

import pytest
from cryptography import x509
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.messages import MESSAGES
from opensslcmp.asn1 import admit
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import Protector, protect, protect_message, protector_for, verify
from opensslcmp.credentials import MacParameters, SharedSecret, Signer
from tests.native_peers import device_party, root

pytestmark = pytest.mark.benchmark(group="protection")

# What OpenSSL's client asks for, so that the numbers compare with the anchor's.
SECRET = SharedSecret("device", "secret", parameters=MacParameters(mac="hmac-sha1", iterations=500))


@pytest.fixture(params=["mac", "signature"])
def protector(request: pytest.FixtureRequest) -> Protector:
    if request.param == "mac":
        return protector_for(SECRET)
    return protector_for(Signer(device_party().certificate, device_party().key))


def test_protect(benchmark: BenchmarkFixture, protector: Protector) -> None:
    message = admit(MESSAGES["ir"])
    benchmark(protect, message.header, message.body_type, message.body_der, protector)


def test_verify(benchmark: BenchmarkFixture, protector: Protector) -> None:
    name = protector.sender_name or x509.Name([]).public_bytes()
    message = admit(protect_message(_from(name), protector))
    trust = Trust([root().certificate])
    benchmark(verify, message, secrets=lambda _reference: SECRET, trust=trust)


def _from(name: bytes) -> bytes:
    """The ir with this sender."""
    from dataclasses import replace

    from opensslcmp.asn1 import assemble, directory_name, protected_part

    message = admit(MESSAGES["ir"])
    header = replace(message.header, sender=directory_name(name))
    return assemble(protected_part(header, message.body_type, message.body_der), message.protection)
