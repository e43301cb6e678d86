"""Enrollments in flight in one thread: memory, and the rate beside ``Session``'s (``python -m benchmarks.in_flight 20000``)."""

import json
import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.benchmark(group="in flight")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_five_thousand_in_flight(benchmark: BenchmarkFixture, backend: str) -> None:
    count = 50 if benchmark.disabled else 5000

    def measured() -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.in_flight", str(count), backend]
        child = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        found: dict[str, float] = json.loads(child.stdout)
        return found

    found = benchmark.pedantic(measured, rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info.update(found)
    assert found["most_mb"] < 250
