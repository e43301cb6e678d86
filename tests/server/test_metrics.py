"""Metrics: what is counted, over several processes, and that peers cannot make new time series."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.server import Peer
from opensslcmp.server.events import Decision, Event
from opensslcmp.server.metrics import BUCKETS, Metrics, MetricsSettings
from tests.server.device import KEYS, crmf, revocation
from tests.server.world import World

B, D, F = BodyType, Decision, FailureInfo


@pytest.fixture
def open_metrics() -> Iterator[Callable[..., Metrics]]:
    """Makes metrics, and closes them."""
    made: list[Metrics] = []

    def make(**options: Any) -> Metrics:
        made.append(Metrics(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def read(text: bytes) -> dict[str, float]:
    """``name{label="value"}`` -> number."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def event(**values: Any) -> Event:
    fields: dict[str, Any] = {"time": 0.5, "peer": Peer(), "decision": D.ACCEPTED}
    return Event(**fields | values)


def test_what_a_server_did_is_counted(make: Callable[..., World], open_metrics: Callable[..., Metrics]) -> None:
    metrics = open_metrics()
    world = make(observe=metrics)
    device = world.device()
    certificate = device.enroll(KEYS[0])
    device.handle(device.last_request)
    world.device(secret="wrong").ask(B.IR, crmf(KEYS[1]))
    world.responder.handle(b"nonsense")
    holder = device.signing(certificate, KEYS[0])
    holder.send(B.RR, [revocation(certificate, RevocationReason.SUPERSEDED)])
    found = read(metrics.text())
    assert found['opensslcmp_messages_total{body="ir",decision="accepted"}'] == 1
    assert found['opensslcmp_messages_total{body="ir",decision="error"}'] == 1
    assert found['opensslcmp_messages_total{body="cert_conf",decision="replayed"}'] == 1
    assert found['opensslcmp_messages_total{body="none",decision="error"}'] == 1
    assert found['opensslcmp_failures_total{failure="badMessageCheck"}'] == 1
    assert found['opensslcmp_failures_total{failure="badDataFormat"}'] == 1
    for change in ("issued", "confirmed", "revoked"):
        assert found[f'opensslcmp_certificates_total{{change="{change}"}}'] == 1
    assert found['opensslcmp_message_seconds_count{body="ir"}'] == 2
    assert found['opensslcmp_message_seconds_bucket{body="ir",le="+Inf"}'] == 2
    assert found['opensslcmp_part_seconds_count{part="store"}'] == 3
    assert found["opensslcmp_workers"] == 1


def test_what_the_store_and_the_certificate_say_is_shown(
    make: Callable[..., World], open_metrics: Callable[..., Metrics]
) -> None:
    world = make()
    metrics = open_metrics(store=world.store, certificate=world.ca.certificate, audit=lambda: (3, 1), clock=world.clock)
    world.device().ask(B.IR, crmf(KEYS[0]))
    assert "opensslcmp_crl_age_seconds" not in read(metrics.text())
    world.ca.publish()
    world.clock.now += 60
    found = read(metrics.text())
    assert found["opensslcmp_open_transactions"] == 1
    assert found["opensslcmp_crl_age_seconds"] == 60
    assert found["opensslcmp_crl_expires_timestamp_seconds"] == world.clock.now - 60 + 7 * 86400
    assert found["opensslcmp_ca_expires_timestamp_seconds"] == facts(world.ca.certificate).not_after
    assert (found["opensslcmp_audit_backlog"], found["opensslcmp_audit_dropped"]) == (3, 1)


def test_a_histogram_counts_up_to_each_bound(open_metrics: Callable[..., Metrics]) -> None:
    metrics = open_metrics()
    for seconds in (0.0, BUCKETS[0], 0.003, 100.0):
        metrics(event(body_type=B.IR, seconds=seconds))
    found = read(metrics.text())
    counts = [found[f'opensslcmp_message_seconds_bucket{{body="ir",le="{bound}"}}'] for bound in (*BUCKETS, "+Inf")]
    assert counts == [2.0] * 5 + [3.0] * 10 + [4.0]
    assert found['opensslcmp_message_seconds_sum{body="ir"}'] == pytest.approx(100.0031)


def test_nothing_that_a_peer_sends_makes_another_series(
    make: Callable[..., World], open_metrics: Callable[..., Metrics]
) -> None:
    metrics = open_metrics()
    world = make(observe=metrics)

    def one(number: int) -> None:
        device = world.device(secret="wrong")
        message = device.build(B.GENM, [], sender_kid=f"name-{number}".encode())
        world.responder.handle(message, Peer(address=f"192.0.2.{number}", label=f"label-{number}"))

    one(1)
    before = set(read(metrics.text()))
    for number in range(2, 30):
        one(number)
    after = read(metrics.text())
    assert set(after) == before
    assert b"label-" not in metrics.text()
    assert b"name-" not in metrics.text()


def test_every_event_there_can_be_has_its_place(open_metrics: Callable[..., Metrics]) -> None:
    metrics = open_metrics()
    for body in (*B, None):
        for decision in D:
            metrics(event(body_type=body, decision=decision, seconds=1.0, issued=(1, 2)))
    found = read(metrics.text())
    messages = {name: value for name, value in found.items() if name.startswith("opensslcmp_messages_total")}
    assert len(messages) == (len(B) + 1) * len(D)
    assert set(messages.values()) == {1.0}
    assert found['opensslcmp_certificates_total{change="issued"}'] == 2 * len(messages)


WORKER = """
import os, sys
from pathlib import Path
from opensslcmp.enums import BodyType
from opensslcmp.server import Peer
from opensslcmp.server.events import Decision, Event
from opensslcmp.server.metrics import Metrics
metrics = Metrics(directory=Path(sys.argv[1]), audit=lambda: (5, 0))
for _ in range(int(sys.argv[2])):
    metrics(Event(time=0.0, peer=Peer(), decision=Decision.ACCEPTED, body_type=BodyType.IR, seconds=0.001))
print("ready", flush=True)
sys.stdin.read()
os._exit(9)
"""


def test_workers_are_added_up_and_the_numbers_of_one_that_died_stay(
    tmp_path: Path, open_metrics: Callable[..., Metrics]
) -> None:
    asked = open_metrics(directory=tmp_path)

    def worker(count: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def end(process: subprocess.Popen[bytes]) -> None:
        process.communicate()
        assert process.returncode == 9

    first, second = worker(10), worker(100)
    name = 'opensslcmp_messages_total{body="ir",decision="accepted"}'
    found = read(asked.text())
    assert (found[name], found["opensslcmp_workers"], found["opensslcmp_audit_backlog"]) == (110, 3, 10)
    end(first)
    found = read(asked.text())
    assert (found[name], found["opensslcmp_workers"], found["opensslcmp_audit_backlog"]) == (110, 2, 5)
    third = worker(1000)
    assert read(asked.text())[name] == 1110
    assert len(list(tmp_path.iterdir())) == 3  # the file of the first is counted on in
    end(second)
    end(third)


def test_files_of_another_version_are_not_read_and_begun_anew(
    tmp_path: Path, open_metrics: Callable[..., Metrics]
) -> None:
    (tmp_path / "worker-0").write_bytes(b"\xff" * 100_000)
    (tmp_path / "worker-7").write_bytes(b"short")
    metrics = open_metrics(directory=tmp_path)
    metrics(event(body_type=B.IR))
    found = read(metrics.text())
    assert found['opensslcmp_messages_total{body="ir",decision="accepted"}'] == 1
    assert found["opensslcmp_workers"] == 1


def test_they_can_be_had_at_an_address_of_their_own_from_one_worker_at_a_time(
    open_metrics: Callable[..., Metrics], free_port: int
) -> None:
    first, second = open_metrics(), open_metrics()
    assert first.listen("127.0.0.1", free_port)
    assert first.listen("127.0.0.1", free_port)
    assert not second.listen("127.0.0.1", free_port)
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics") as answer:
        assert read(answer.read())["opensslcmp_workers"] == 1
    first.close()
    assert second.listen("127.0.0.1", free_port)
    with pytest.raises(OSError, match="assign"):
        open_metrics().listen("192.0.2.1", free_port)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("values", [{"path": "metrics"}, {"port": 0}])
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        MetricsSettings(**values)
