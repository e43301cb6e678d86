"""The anchor itself: what a C program over OpenSSL's CMP API takes, both ends (microseconds of CPU are in extra_info)."""

from dataclasses import asdict

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.anchor import Case, anchor
from benchmarks.cases import CASES
from benchmarks.peers import with_asn1crypto, with_pyasn1

pytestmark = pytest.mark.benchmark(group="enrollment")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_anchor(benchmark: BenchmarkFixture, case: Case) -> None:
    taken = benchmark.pedantic(  # type: ignore[no-untyped-call]
        anchor, args=(case,), kwargs={"count": 10 if benchmark.disabled else 100}, rounds=1
    )
    benchmark.extra_info.update(asdict(taken))
    assert taken.total == pytest.approx(taken.client + taken.server, abs=1)


def test_enroll_with_asn1crypto(benchmark: BenchmarkFixture) -> None:
    benchmark(with_asn1crypto.enroll)


def test_enroll_with_pyasn1(benchmark: BenchmarkFixture) -> None:
    benchmark(with_pyasn1.enroll)
