"""Load: when operations begin, what is counted, and that a server that stands still does not look fast."""

from __future__ import annotations

import json
import math
import random
import threading
from collections.abc import Iterator

import pytest

from opensslcmp import Context, Rejected, SharedSecret, TransportError
from opensslcmp.client.histogram import Histogram
from opensslcmp.client.load import NOT_BEGUN, Generator, Pace, Plan, SessionLane, Tally, failure_kind
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage, OpenSSLError, ProtectionError, TimedOut
from tests.server.world import World, fresh_world


def test_a_histogram_tells_percentiles_at_most_one_part_in_128_too_high() -> None:
    values = [int(random.Random(7).lognormvariate(9, 2)) for _ in range(5000)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for percent in (0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0):
        exact = sorted(values)[max(math.ceil(round(len(values) * percent / 100, 6)), 1) - 1]
        assert exact <= histogram.at(percent) <= exact * (1 + 1 / 128)
    assert (histogram.least, histogram.most, histogram.count) == (min(values), max(values), 5000)
    assert histogram.mean == pytest.approx(sum(values) / 5000)


def test_histograms_are_added_up_without_loss_and_survive_json() -> None:
    parts = [Histogram(), Histogram(), Histogram()]
    whole, added = Histogram(), Histogram()
    for number in range(1000):
        parts[number % 2].add(number**2)
        whole.add(number**2)
    for part in parts:
        added.merge(Histogram.from_json(json.loads(json.dumps(part.to_json()))))
    assert added.to_json() == whole.to_json()
    assert added.count == whole.count


def test_an_empty_histogram_tells_zero_and_a_percentile_is_one() -> None:
    histogram = Histogram()
    assert (histogram.at(50), histogram.mean, histogram.count) == (0, 0.0, 0)
    histogram.add(-5)
    assert histogram.at(100) == 0
    with pytest.raises(ValueError, match="from 0 to 100"):
        histogram.at(101)


@pytest.mark.parametrize(
    "pace",
    [Pace(rate=50), Pace(rate=10, to=100, ramp_seconds=4), Pace(rate=100, to=10, ramp_seconds=4), Pace(rate=5, to=9)],
)
def test_a_pace_begins_operations_when_its_rate_says(pace: Pace) -> None:
    moments = [pace.moment(number) for number in range(600)]
    assert moments[0] == 0
    assert moments == sorted(moments)
    for number, moment in enumerate(moments):
        assert pace.begun(moment) == pytest.approx(number, abs=1e-6)
    assert 1 / (moments[-1] - moments[-2]) == pytest.approx(pace.last)


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"rate": 1, "to": -1}, {"rate": math.inf}, {"rate": 1, "ramp_seconds": -1}]
)
def test_a_pace_that_cannot_be_kept_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"rate|ramp"):
        Pace(**wrong)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"duration_seconds": 0}, {"warm_up_seconds": -1}, {"process": 2}])
def test_a_plan_that_cannot_be_kept_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"above 0|process"):
        Plan(**wrong)  # type: ignore[arg-type]


class _Clock:
    """A clock that the lanes move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class _Lane:
    """Takes the clock forward by what each operation takes, or raises."""

    def __init__(self, clock: _Clock, taken: Iterator[float | Exception]) -> None:
        self.clock = clock
        self.taken = taken
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def operate(self) -> None:
        taken = next(self.taken)
        if isinstance(taken, Exception):
            raise taken
        self.clock.now += taken


def measured(plan: Plan, *taken: float | Exception) -> tuple[Tally, _Lane]:
    clock = _Clock()
    lane = _Lane(clock, iter(taken))
    generator = Generator(plan, [lane], clock=clock)
    generator.prepare()
    generator.start()
    assert generator.wait(20)
    return generator.take(), lane


def test_a_closed_loop_does_so_many_one_after_the_other() -> None:
    tally, lane = measured(Plan(count=3), 0.5, 0.25, 0.25)
    assert tally.latency.count == 3
    assert tally.latency.to_json() == tally.service.to_json()
    assert tally.latency.most == 500_000
    assert tally.ended == 1.0
    assert lane.prepared == 4  # each time, off the clock, for the next one


def test_a_closed_loop_ends_in_time() -> None:
    tally, _ = measured(Plan(duration_seconds=1), *[0.3] * 9)
    assert tally.latency.count == 4


def test_what_begins_in_the_warm_up_is_not_counted() -> None:
    tally, _ = measured(Plan(duration_seconds=1, warm_up_seconds=1), 0.9, 5.0, *[0.25] * 9)
    assert tally.latency.count == 0  # the second one took all of the time
    tally, _ = measured(Plan(count=2, warm_up_seconds=1), 0.9, 0.1, 0.2, 0.3)
    assert tally.latency.least == pytest.approx(200_000, rel=0.01)
    assert tally.latency.most == pytest.approx(300_000, rel=0.01)


def test_a_server_that_stands_still_makes_all_late_who_should_have_begun_meanwhile() -> None:
    tally, _ = measured(Plan(pace=Pace(rate=1000), count=4), 1.0, 0.0, 0.0, 0.0)
    assert tally.latency.count == 4
    assert tally.latency.least == pytest.approx(997_000, rel=0.01)  # of the one that should have begun after 3 ms
    assert tally.service.at(75) == 0


def test_what_could_not_begin_before_the_end_is_a_failure() -> None:
    tally, _ = measured(Plan(pace=Pace(rate=100), duration_seconds=1), 5.0)
    assert tally.latency.count == 1
    assert tally.failures == {NOT_BEGUN: 99}


def test_what_is_left_of_a_warm_up_is_not_made_up_for() -> None:
    plan = Plan(pace=Pace(rate=100), duration_seconds=0.03, warm_up_seconds=1)
    tally, _ = measured(plan, 1.0, 0.0, 0.0, 0.0)
    assert tally.latency.count == 3
    assert not tally.failed


def test_processes_share_a_pace() -> None:
    seen = 0
    for process in range(3):
        tally, _ = measured(Plan(pace=Pace(rate=1000), count=10, process=process, processes=3), *[0.0] * 9)
        seen += tally.latency.count
    assert seen == 10


def test_failures_are_counted_by_kind_with_the_words_of_the_first() -> None:
    refused = Rejected(FailureInfo.BAD_POP, "no")
    tally, _ = measured(Plan(count=4), 0.1, refused, Rejected(FailureInfo.BAD_POP, "never"), TransportError("gone"))
    assert tally.failures == {"rejected: badPOP": 2, "transport: no answer": 1}
    assert tally.examples["rejected: badPOP"] == str(refused)
    assert (tally.latency.count, tally.failed) == (1, 3)
    assert tally.seconds[0].failed == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimedOut("late"), "transport: timed out"),
        (TransportError("busy", http_status=503), "transport: HTTP 503"),
        (ProtectionError("bad"), "protection: badMessageCheck"),
        (BadMessage(FailureInfo.BAD_DATA_FORMAT, "nonsense"), "bad message: badDataFormat"),
        (OpenSSLError(), "OpenSSL"),
        (KeyError("x"), "KeyError"),
    ],
)
def test_each_cause_is_a_kind_of_failure(error: Exception, kind: str) -> None:
    assert failure_kind(error) == kind


def test_tallies_of_several_are_added_up_and_survive_json() -> None:
    first, _ = measured(Plan(count=2), 0.25, Rejected(FailureInfo.BAD_ALG))
    second, _ = measured(Plan(count=2), 1.5, 0.25)
    whole = Tally()
    for each in (first, second):
        whole.merge(Tally.from_json(json.loads(json.dumps(each.to_json()))))
    assert (whole.latency.count, whole.failed, whole.ended) == (3, 1, 1.75)
    assert {number: each.latency.count for number, each in whole.seconds.items()} == {0: 1, 1: 2}


def test_a_lane_that_cannot_prepare_ends_it_before_it_begins() -> None:
    class Broken(_Lane):
        def prepare(self) -> None:
            raise Rejected(FailureInfo.NOT_AUTHORIZED)

    generator = Generator(Plan(count=1), [Broken(_Clock(), iter(()))])
    with pytest.raises(Rejected):
        generator.prepare()


def test_a_lane_that_cannot_prepare_the_next_one_tells_it_as_a_failure_of_that() -> None:
    class Fickle(_Lane):
        def prepare(self) -> None:
            super().prepare()
            if self.prepared in {2, 3}:
                raise Rejected(FailureInfo.NOT_AUTHORIZED)

    clock = _Clock()
    generator = Generator(Plan(count=3), [Fickle(clock, iter([0.0, 0.0]))], clock=clock)
    generator.prepare()
    generator.start()
    assert generator.wait(20)
    tally = generator.take()
    assert tally.failures == {"rejected: notAuthorized": 1}
    assert tally.latency.count == 2


def test_stopped_it_begins_nothing_more() -> None:
    begun = threading.Event()

    class Endless:
        def prepare(self) -> None:
            pass

        def operate(self) -> None:
            begun.set()

    generator = Generator(Plan(), [Endless(), Endless()])
    generator.prepare()
    generator.start()
    assert begun.wait(20)
    generator.stop()
    assert generator.wait(20)
    assert generator.take().latency.count > 0


@pytest.fixture
def world() -> World:
    world = fresh_world()
    world.ca.add_secret("device", "secret")
    return world


def context(world: World) -> Context:
    return Context(credential=SharedSecret("device", "secret"), trusted=[world.ca.certificate])


@pytest.mark.parametrize("fresh_keys", [False, True])
@pytest.mark.parametrize("operation", ["ir", "cr", "kur", "rr", "genm"])
def test_a_session_does_every_operation_over_and_over(world: World, operation: str, fresh_keys: bool) -> None:
    lane = SessionLane(
        context(world),
        operation,  # type: ignore[arg-type]
        fresh_keys=fresh_keys,
        transport=world.responder.handle,
    )
    for _ in range(3):
        lane.prepare()
        lane.operate()
    keys = [record.key_and_subject for record in world.store.every_certificate()]
    assert len(keys) == {"ir": 3, "cr": 3, "kur": 4, "rr": 3, "genm": 0}[operation]
    assert len(world.store.revocations(world.clock())[1]) == (3 if operation == "rr" else 0)


def test_an_update_that_failed_is_followed_by_a_certificate_of_its_own(world: World) -> None:
    broken = False

    def send(request: bytes) -> bytes:
        if broken:
            raise TransportError("gone")
        answer: bytes = world.responder.handle(request)
        return answer

    lane = SessionLane(context(world), "kur", transport=send)
    lane.prepare()
    broken = True
    with pytest.raises(TransportError):
        lane.operate()
    broken = False
    lane.prepare()
    lane.operate()
    assert len(list(world.store.every_certificate())) == 3
