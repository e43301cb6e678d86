"""Decoding and encoding a whole PKIMessage, body included."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.messages import MESSAGES
from benchmarks.peers import with_asn1crypto, with_pyasn1
from opensslcmp.asn1 import admit, assemble, encode_body, protected_part

pytestmark = pytest.mark.benchmark(group="asn1")


@pytest.fixture(params=sorted(MESSAGES))
def der(request: pytest.FixtureRequest) -> bytes:
    return MESSAGES[request.param]


def test_gate(benchmark: BenchmarkFixture, der: bytes) -> None:
    benchmark(admit, der)


def test_decode(benchmark: BenchmarkFixture, der: bytes) -> None:
    benchmark(lambda: admit(der).content())


def test_decode_with_asn1crypto(benchmark: BenchmarkFixture, der: bytes) -> None:
    benchmark(lambda: with_asn1crypto.PKIMessage.load(der).native)


def test_decode_with_pyasn1(benchmark: BenchmarkFixture, der: bytes) -> None:
    benchmark(with_pyasn1.decode, der)


def test_encode(benchmark: BenchmarkFixture, der: bytes) -> None:
    message = admit(der)
    content = message.content()

    def encode() -> bytes:
        part = protected_part(message.header, message.body_type, encode_body(message.body_type, content))
        return assemble(part, message.protection, message.extra_certs)

    assert benchmark(encode) == der


def test_encode_with_asn1crypto(benchmark: BenchmarkFixture, der: bytes) -> None:
    message = with_asn1crypto.PKIMessage.load(der)
    assert message.native
    assert benchmark(message.dump, force=True) == der


def test_encode_with_pyasn1(benchmark: BenchmarkFixture, der: bytes) -> None:
    message = with_pyasn1.decode(der)
    assert benchmark(with_pyasn1.encode, message) == der
