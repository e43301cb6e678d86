"""Enrollments over loopback HTTP from `our server`."""

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.anchor import Case, anchor
from benchmarks.network import Server, Service, tool_rate

pytestmark = pytest.mark.benchmark(group="http")

CASE = Case(confirm="explicit")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.mark.parametrize("keep_alive", [True, False], ids=["persistent", "new-connection"])
def test_session(benchmark: BenchmarkFixture, service: Service, keep_alive: bool) -> None:
    benchmark(Server(service, CASE, keep_alive=keep_alive).run, 1)


@pytest.mark.parametrize("way", ["-s", "-o"], ids=["raw-socket", "own-transfer"])
def test_anchor(benchmark: BenchmarkFixture, service: Service, way: str) -> None:
    benchmark(
        lambda: anchor(CASE, way, service.target, "-r", service.reference, "-x", service.secret, count=1, warm_up=0)
    )


def test_openssl_cmp(benchmark: BenchmarkFixture, service: Service) -> None:
    benchmark(tool_rate, service, 1)
