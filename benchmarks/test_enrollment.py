"""Our two ends in one process, to be read beside the anchor (CPU of each end is in extra_info)."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.anchor import Case
from benchmarks.cases import CASES, EASIEST
from benchmarks.ends import Ends, crossings

pytestmark = pytest.mark.benchmark(group="enrollment")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_session_and_responder(benchmark: BenchmarkFixture, case: Case) -> None:
    ends = Ends(case)
    benchmark(ends.enroll)
    share = ends.run(1 if benchmark.disabled else 50)
    benchmark.extra_info.update(client=share.client, server=share.server)


def test_crossings_are_few(benchmark: BenchmarkFixture) -> None:
    assert 0 < benchmark(crossings, EASIEST, 2) < 100
