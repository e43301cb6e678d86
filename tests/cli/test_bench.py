"""``opensslcmp bench``: what it reports and draws, how it ends, and what it refuses. Nothing here looks at how long it takes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from opensslcmp.cli import bench as module
from opensslcmp.cli.bench import BenchOptions, chart, report_of
from opensslcmp.cli.plot import Bar, Bars, Panel, Series, draw
from opensslcmp.client.load import Plan, Tally
from opensslcmp.server.ca import CA
from tests.cli.conftest import CLI
from tests.server.web_client import environment, running

SECRET = {"SECRET": "correct horse"}
BY_SECRET = ("--ref", "device", "--secret", "env:SECRET")
SHORT = ("--warm_up", "0", "--concurrency", "2")


@pytest.fixture(scope="module")
def ca_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bench-ca") / "ca"
    ca = CA.create(directory, "CN=Bench CA")
    ca.add_secret("device", SECRET["SECRET"])
    ca.close()
    return directory


@pytest.fixture(scope="module")
def url(ca_directory: Path) -> Iterator[str]:
    with running("-m", "opensslcmp", "serve", str(ca_directory), "--port", "0") as (url, _, _):
        yield url


def names(ca_directory: Path) -> Counter[str]:
    ca = CA.open(ca_directory)
    try:
        subjects = [record.certificate for record in ca.store.every_certificate()]
    finally:
        ca.close()
    from cryptography import x509

    return Counter(x509.load_der_x509_certificate(der).subject.rfc4514_string() for der in subjects)


@pytest.mark.parametrize("operation", ["ir", "cr", "kur", "rr", "genm"])
def test_every_operation_is_done_as_often_as_asked(cli: CLI, url: str, ca_directory: Path, operation: str) -> None:
    trust = ("--trusted", ca_directory / "ca.pem")
    result = cli("bench", url, *BY_SECRET, *SHORT, *trust, "--cmd", operation, "--count", 5, "--json", env=SECRET)
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert (told["operation"], told["succeeded"], told["failed"], told["failures"]) == (operation, 5, 0, [])
    assert told["loop"] == "closed"
    latency = told["latency_ms"]
    assert 0 < latency["least"] <= latency["p50"] <= latency["p99"] <= latency["most"]
    assert sum(each["succeeded"] for each in told["timeline"]) == 5


def test_an_open_loop_from_several_processes_keeps_to_its_rate_and_its_names(
    cli: CLI, url: str, ca_directory: Path, tmp_path: Path
) -> None:
    report, svg = tmp_path / "report.json", tmp_path / "plot.svg"
    options = ("--rate", "100:300", "--ramp", "0.1", "--count", 30, "--workers", 2, "--fresh_keys")
    files = ("--report", report, "--svg", svg)
    before = names(ca_directory)
    result = cli("bench", url, *BY_SECRET, *SHORT, *options, *files, "--subject", "/CN=crowd-{number}", env=SECRET)
    assert result.code == 0, result.err
    assert "succeeded  30" in result.out
    assert "100 to 300/s asked" in result.out
    told = json.loads(report.read_text())
    assert told["rate_asked"] == [100, 300]
    assert told["service_ms"]["most"] <= told["latency_ms"]["most"]
    assert ElementTree.fromstring(svg.read_text()).tag.endswith("svg")
    fresh = names(ca_directory) - before
    crowd = [name for name in fresh if name.startswith("CN=crowd-")]
    assert len(crowd) == sum(fresh[name] for name in crowd) == 31  # one more, to try it


def test_other_ways_of_asking(cli: CLI, url: str) -> None:
    options = ("--implicit_confirm", "--new_connections", "--newkey", "ed25519", "--count", 2)
    result = cli("bench", "--server", url, *BY_SECRET, *SHORT, *options, "--json", env=SECRET)
    assert result.code == 0, result.err
    assert json.loads(result.out)["succeeded"] == 2


def test_a_profile_is_asked_for(cli: CLI, url: str) -> None:
    result = cli("bench", url, *BY_SECRET, *SHORT, "--profile", "nonsense", env=SECRET)
    assert result.code == 3
    assert "nonsense" in result.err or "profile" in result.err.lower()


def test_what_is_wrong_from_the_first_is_told_as_by_other_commands(cli: CLI, url: str) -> None:
    wrong = cli("bench", url, "--ref", "device", "--secret", "env:SECRET", env={"SECRET": "another"})
    assert wrong.code == 5
    assert "badMessageCheck" in wrong.err
    assert not wrong.out
    assert cli("bench", "http://127.0.0.1:9", *BY_SECRET, env=SECRET).code == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cmd", "p10cr"), "--cmd is one of ir"),
        (("--cmd", "kur"), "--trusted or --srvcert"),
        (("--rate", "fast"), "--rate"),
        (("--rate", "0"), "--rate: a rate is above 0"),
        (("--rate", "1:5", "--count", "3"), "a ramp needs"),
        (("--ramp", "3"), "--ramp is for"),
        (("--count", "0"), "above 0"),
        (("--workers", "9"), "--workers"),
        (("--max_failures", "few"), "--max_failures"),
        (("--max_failures", "1.5"), "--max_failures"),
        (("--newkey", "stone"), "--newkey"),
        (("--subject", "bench"), "--subject"),
        (("--server", "http://127.0.0.1:9"), "twice"),
        (("--cacertsout", "x.pem"), "writes no certificates"),
    ],
)
def test_options_that_make_no_sense_are_refused(cli: CLI, options: tuple[str, ...], words: str) -> None:
    result = cli("bench", "http://127.0.0.1:9", *BY_SECRET, *options, env=SECRET)
    assert result.code == 2
    assert words in result.err


def failing(tally_failed: int) -> Tally:
    tally = Tally()
    for number in range(100 - tally_failed):
        tally.succeed(number / 10, 0.01 * (number + 1), 0.01)
    if tally_failed:
        tally.fail(0.5, "rejected: badPOP", "no", tally_failed)
    return tally


class _Played:
    """A crew that has measured already."""

    tally = Tally()

    def __init__(self, load: object) -> None:
        pass

    def __enter__(self) -> _Played:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        pass

    def wait(self, seconds: float) -> bool:
        return True

    def take(self) -> Tally:
        return self.tally

    def stop(self) -> None:
        pass


@pytest.mark.parametrize(
    ("failed", "tolerated", "code"), [(0, "0", 0), (1, "0", 9), (3, "3", 0), (4, "3", 9), (2, "2%", 0), (3, "2.5%", 9)]
)
def test_more_failures_than_tolerated_make_it_fail(
    cli: CLI, url: str, monkeypatch: pytest.MonkeyPatch, failed: int, tolerated: str, code: int
) -> None:
    monkeypatch.setattr(module, "_Threads", _Played)
    monkeypatch.setattr(_Played, "tally", failing(failed))
    result = cli("bench", url, *BY_SECRET, "--cmd", "genm", "--max_failures", tolerated, env=SECRET)
    assert result.code == code
    assert f"failed  {failed}" in result.out
    assert ("rejected: badPOP: no" in result.out) is bool(failed)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_gives_the_report_so_far(url: str, workers: str) -> None:
    command = [sys.executable, "-m", "opensslcmp", "bench", url, *BY_SECRET, *SHORT, "--duration", "90"]
    with subprocess.Popen(
        [*command, "--workers", workers, "--json"],
        env=environment() | SECRET,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert re.match(r"[12] s: \d+ done, 0 failed", first), first
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the report so far" in err
    assert "Traceback" not in err
    told = json.loads(out)
    assert told["interrupted"] is True
    assert told["succeeded"] > 0
    assert not told["failed"]


def test_a_worker_that_dies_is_told(url: str, cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = cli("bench", url, *BY_SECRET, *SHORT, "--workers", "2", env=SECRET)
    assert result.code == 7
    assert "a worker ended early" in result.err


def test_on_a_terminal_a_table_shows_how_it_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    with module._Live("http://ca", "ir") as live:
        live.show(Tally(), -0.5)
        live.show(failing(2), 9.0)
    shown = capsys.readouterr().err
    assert "warming up" in shown
    assert "98" in shown


def test_a_report_of_nothing_can_be_told_and_drawn() -> None:
    told = report_of(Tally(), Plan(), BenchOptions(), interrupted=True)
    assert (told["succeeded"], told["rate"], told["timeline"]) == (0, 0.0, [])
    ElementTree.fromstring(chart(told))


def test_a_chart_has_a_line_for_each_percentile_and_the_failures() -> None:
    told = report_of(failing(5), Plan(duration_seconds=10), BenchOptions(), server="http://ca/<&>")
    drawn = ElementTree.fromstring(chart(told))
    words = [each.text for each in drawn.iter() if each.tag.endswith("text")]
    assert {"Throughput", "Latency over time", "p50", "p99", "failed", "90%"} <= set(words)
    assert len([each for each in drawn.iter() if each.tag.endswith("polyline")]) == 2 + 4 + 1
    percents = [percent for percent, _ in told["percentiles"]]
    assert percents == sorted(percents)
    assert percents[0] == 0
    assert percents[-1] == pytest.approx(98, abs=1)  # of 95 values nothing can be told beyond


def test_bars_are_as_long_as_their_parts() -> None:
    bars = Bars(title="Cost", parts=["a", "b"], bars=[Bar(name="one", values=[1, 3]), Bar(name="two", values=[2, 2])])
    drawn = ElementTree.fromstring(draw("Bars", [bars, Panel(title="none", series=[Series(name="x", points=[])])]))
    widths = [float(each.attrib["width"]) for each in drawn.iter() if each.tag.endswith("rect") and len(each)]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01)
    assert widths[2] == widths[3] == pytest.approx(2 * widths[0], rel=0.01)


def test_the_secret_of_a_worker_stands_neither_in_its_arguments_nor_in_its_environment(
    cli: CLI, url: str, tmp_path: Path
) -> None:
    spy = tmp_path / "python"
    spy.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/arguments\nenv >> {tmp_path}/arguments\nexec {sys.executable} "$@"\n'
    )
    spy.chmod(0o700)
    (tmp_path / "secret").write_text(SECRET["SECRET"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(spy))
        source = f"file:{tmp_path / 'secret'}"
        result = cli("bench", url, "--ref", "device", "--secret", source, *SHORT, "--count", "2", "--workers", "2")
    assert result.code == 0, result.err
    seen = (tmp_path / "arguments").read_text()
    assert "opensslcmp.cli.bench" in seen
    assert SECRET["SECRET"] not in seen
    assert os.environ["PATH"] in seen
