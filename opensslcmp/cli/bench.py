"""``opensslcmp bench``: how many operations a CMP server does, and how long they take.

1. One operation is tried: what is wrong with credentials or server is told as every other command tells it.
2. With ``--workers`` the load comes from processes, each a child that runs ``work``: it gets its task through stdin (so no
   secret stands in its arguments or environment), says when it is ready, and writes what it measured as lines of JSON.
3. What comes in is shown while it runs; the report is of all of it, also after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import platform
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Protocol, Self, cast, get_args

import typer

from opensslcmp.cli.exits import Exit, InputError, UsageError
from opensslcmp.cli.files import write_durably
from opensslcmp.cli.options import ClientOptions, make_context, make_credential, make_tls, server_url
from opensslcmp.cli.plot import Panel, Series, draw, percentile_place
from opensslcmp.cli.talk import give, give_json, say
from opensslcmp.client.context import Context, name_from
from opensslcmp.client.histogram import Histogram
from opensslcmp.client.load import Generator, Operation, Pace, Plan, SessionLane, Tally
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import Credential
from opensslcmp.linked import features
from opensslcmp.transport import TLS, HTTPTransport

__all__ = ["BenchOptions", "bench", "chart", "report_of", "work"]

_LOAD = "Load"
_SHOWN = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
_TICK_SECONDS = 0.5
_LINE_SECONDS = 5.0
_LAST_SECONDS = 5.0


def _option(name: str, help_text: str, metavar: str | None = None, panel: str = _LOAD) -> Any:
    return typer.Option(f"--{name}", help=help_text, rich_help_panel=panel, metavar=metavar)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What load there is."""

    cmd: Annotated[str, _option("cmd", "Operation: ir, cr, kur, rr (a certificate it just got) or genm")] = "ir"
    concurrency: Annotated[int, _option("concurrency", "At most so many at one time, of all workers")] = 8
    rate: Annotated[
        str | None,
        _option("rate", "Begin so many each second, whatever becomes of them (open loop); FROM:TO for a ramp", "RATE"),
    ] = None
    ramp: Annotated[float, _option("ramp", "Seconds from FROM to TO; by default all of --duration", "SECONDS")] = 0.0
    duration: Annotated[
        float | None, _option("duration", "Measure so long; 10 without --count and --duration", "SECONDS")
    ] = None
    count: Annotated[int | None, _option("count", "Measure so many operations")] = None
    warm_up: Annotated[float, _option("warm_up", "Load before anything is measured", "SECONDS")] = 1.0
    workers: Annotated[int, _option("workers", "Processes that make the load")] = 1
    newkey: Annotated[str, _option("newkey", "Kind of the keys to certify, such as ec:P-256, rsa:3072, ed25519")] = (
        "ec:P-256"
    )
    fresh_keys: Annotated[
        bool, _option("fresh_keys", "A new key for each certificate (made off the clock), not one for each client")
    ] = False
    subject: Annotated[
        str, _option("subject", "Of certificates; {number} becomes a number of each request", "NAME")
    ] = "/CN=bench-{number}"
    implicit_confirm: Annotated[bool, _option("implicit_confirm", "Ask the server to waive the confirmation")] = False
    new_connections: Annotated[bool, _option("new_connections", "A new connection for each message")] = False
    max_failures: Annotated[
        str, _option("max_failures", "Exit with 9 when more failed than so many, or such a part: 1%", "NUMBER")
    ] = "0"
    report: Annotated[Path | None, _option("report", "Write the report here, as JSON", "FILE")] = None
    svg: Annotated[Path | None, _option("svg", "Draw throughput, latency and percentiles here", "FILE")] = None


def bench(
    client: ClientOptions,
    options: BenchOptions,
    *,
    url: Annotated[str | None, typer.Argument(help="The server, as for --server", metavar="[URL]")] = None,
) -> None:
    """Put load on a CMP server, and measure it.

    As fast as answers come, by --concurrency clients; or with --rate at that rate, where latency counts from the moment at
    which an operation should have begun, so that a server that stands still does not look fast. Certificates are really
    issued: use a CA that is meant for it. The report goes to stdout, as JSON with --json; Ctrl-C gives the report so far.
    """
    if url is not None:
        if client.server is not None:
            raise UsageError("the server is named twice, by --server too")
        client = replace(client, server=url)
    if client.cacertsout or client.extracertsout or client.srvcertout:
        raise UsageError("bench writes no certificates")
    plan, tolerated = _plan(options), _tolerated(options.max_failures)
    operation = _operation(options)
    signs = client.secret is None
    if operation == "kur" and not signs and not (client.trusted or client.srvcert):
        raise UsageError("kur is signed, and so are its answers: --trusted or --srvcert is needed")
    load = _Load(client, options, operation, plan, make_credential(client), make_tls(client))
    with contextlib.closing(load.context(1)) as context:
        (one,) = load.lanes(context, 1, first=0)
        one.prepare()
        one.operate()
    crew: _Crew = _Children(load) if options.workers > 1 else _Threads(load)
    tally = Tally()
    interrupted = False
    with crew:
        crew.start()
        begun = time.monotonic() + plan.warm_up_seconds
        with _Live(server_url(_one(client)), operation) as live:
            try:
                while not crew.wait(_TICK_SECONDS):
                    tally.merge(crew.take())
                    live.show(tally, time.monotonic() - begun)
            except KeyboardInterrupt:
                interrupted = True
                say("interrupted; this is the report so far")
                crew.stop()
                crew.wait(_LAST_SECONDS)
        tally.merge(crew.take())
    told = report_of(tally, plan, options, server=server_url(_one(client)), interrupted=interrupted)
    _give(told, options, as_json=client.as_json)
    if interrupted:
        raise typer.Exit(Exit.INTERRUPTED)
    if tally.failed > tolerated(tally.failed + tally.latency.count):
        say(f"error: {tally.failed} failed; --max_failures is {options.max_failures}")
        raise typer.Exit(Exit.SOME_FAILED)


def _one(client: ClientOptions) -> ClientOptions:
    """With the first of several servers only."""
    return replace(client, server=(client.server or "").partition(",")[0])


def _operation(options: BenchOptions) -> Operation:
    if options.cmd not in get_args(Operation):
        raise UsageError(f"--cmd is one of {', '.join(get_args(Operation))}")
    if options.concurrency < 1 or not 1 <= options.workers <= options.concurrency:
        raise UsageError("--workers is at least 1, and --concurrency at least as many")
    for name, make in (
        ("subject", lambda: name_from(options.subject.replace("{number}", "0"))),
        ("newkey", lambda: PrivateKey.generate(options.newkey)),
    ):
        try:
            make()
        except ValueError as error:
            raise UsageError(f"--{name}: {error}") from None
    return cast("Operation", options.cmd)


def _plan(options: BenchOptions) -> Plan:
    duration = options.duration
    if duration is None:
        duration = 10.0 if options.count is None else math.inf
    pace = None
    if options.rate is not None:
        first, ramped, last = options.rate.partition(":")
        try:
            ramp = options.ramp or duration if ramped else 0.0
            if math.isinf(ramp):
                raise UsageError("a ramp needs --ramp or --duration")
            pace = Pace(rate=float(first), to=float(last) if ramped else None, ramp_seconds=ramp)
        except ValueError as error:
            raise UsageError(f"--rate: {error}") from None
    if options.ramp and (pace is None or pace.to is None):
        raise UsageError("--ramp is for --rate FROM:TO")
    if not 0 <= options.warm_up < math.inf or not duration > 0 or (options.count is not None and options.count < 1):
        raise UsageError("--duration and --count are above 0, and --warm_up is not below")
    return Plan(
        pace=pace,
        duration_seconds=duration,
        count=math.inf if options.count is None else options.count,
        warm_up_seconds=options.warm_up,
    )


def _tolerated(text: str) -> Any:
    """How many may fail of so many."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    if found is None or (not found[2] and "." in found[1]):
        raise UsageError("--max_failures is a number, or a part such as 1%")
    if found[2]:
        return lambda count: count * float(found[1]) / 100
    return lambda count: int(found[1])


@dataclass(frozen=True, slots=True)
class _Load:
    """What a process needs to know, secrets resolved."""

    client: ClientOptions
    options: BenchOptions
    operation: Operation
    plan: Plan
    credential: Credential | None
    tls: TLS | None

    def context(self, connections: int) -> Context:
        return make_context(
            self.client,
            implicit_confirm=self.options.implicit_confirm,
            credential=self.credential,
            tls=self.tls,
            max_connections=connections,
        )

    def lanes(self, context: Context, count: int, *, first: int) -> list[SessionLane]:
        """``first`` is the number of the first one, over all processes."""
        return [
            SessionLane(
                context,
                self.operation,
                number=first + number,
                subject=self.options.subject,
                key_kind=self.options.newkey,
                fresh_keys=self.options.fresh_keys,
                profile=self.client.profile,
                transport=self._transport(context) if self.options.new_connections else None,
            )
            for number in range(count)
        ]

    def _transport(self, context: Context) -> list[HTTPTransport]:
        return [
            HTTPTransport(
                server,
                connect_timeout_seconds=context.connect_timeout_seconds,
                message_timeout_seconds=context.message_timeout_seconds,
                proxy=context.proxy,
                no_proxy=context.no_proxy,
                tls=context.tls,
                keep_alive=False,
            )
            for server in context.servers
        ]

    def share(self, process: int) -> tuple[Plan, int, int]:
        """The plan of a process, how many lanes it has, and the number of the first."""
        processes = self.options.workers
        lanes, more = divmod(self.options.concurrency, processes)
        plan = replace(self.plan, process=process, processes=processes)
        if plan.pace is None and math.isfinite(plan.count):
            each, rest = divmod(int(plan.count), processes)
            # A process that is left nothing does one: there are never fewer than asked for.
            plan = replace(plan, count=max(each + (process < rest), 1))
        return plan, lanes + (process < more), 1 + process * lanes + min(process, more)


class _Crew(Protocol):
    """Those who make the load."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self) -> None:
        """Get ready, and begin together."""

    def wait(self, seconds: float) -> bool:
        """At most so long; whether all have ended."""

    def take(self) -> Tally:
        """What was measured since the last call."""

    def stop(self) -> None:
        """Begin nothing more."""


class _Threads:
    """In this process."""

    def __init__(self, load: _Load) -> None:
        plan, lanes, first = load.share(0)
        self._context = load.context(lanes)
        self._generator = Generator(plan, load.lanes(self._context, lanes, first=first))
        self.wait, self.take, self.stop = self._generator.wait, self._generator.take, self._generator.stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._context.close()

    def start(self) -> None:
        self._generator.prepare()
        self._generator.start()


class _Children:
    """In processes of their own."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._children: list[subprocess.Popen[bytes]] = []
        self._readers: list[threading.Thread] = []
        self._tally = Tally()
        self._ready = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            assert child.stdin is not None
            with contextlib.suppress(OSError):
                child.stdin.close()  # which a child takes for the end
        for child in self._children:
            try:
                child.wait(_LAST_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for reader in self._readers:
            reader.join()
        for child in self._children:
            assert child.stdout is not None
            child.stdout.close()

    def start(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from opensslcmp.cli.bench import work; work()"
        for process in range(self._load.options.workers):
            child = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us, who tell them
            )
            self._children.append(child)
            reader = threading.Thread(target=self._read, args=(child,), daemon=True)
            reader.start()
            self._readers.append(reader)
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # its reader tells
                pickle.dump((self._load, process), child.stdin)
                child.stdin.flush()
        while self._ready < len(self._children):
            self._hear(self._heard.get())
        self._say(f"start {time.monotonic() + 0.05}")

    def _say(self, words: str) -> None:
        for child in self._children:
            assert child.stdin is not None
            with contextlib.suppress(OSError):
                child.stdin.write(f"{words}\n".encode())
                child.stdin.flush()

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        ended = False
        for line in child.stdout:
            told = json.loads(line)
            ended = ended or "ended" in told or "failed" in told
            self._heard.put(told)
        if not ended:
            self._heard.put({"failed": f"a worker ended early, with {child.wait()}"})

    def _hear(self, told: dict[str, Any]) -> None:
        if "failed" in told:
            raise InputError(told["failed"])
        if "tally" in told:
            self._tally.merge(Tally.from_json(told["tally"]))
        self._ready += "ready" in told
        self._ready -= "ended" in told

    def wait(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._ready and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._hear(self._heard.get(timeout=left))
        return not self._ready

    def take(self) -> Tally:
        taken, self._tally = self._tally, Tally()
        return taken

    def stop(self) -> None:
        self._say("stop")


def work() -> None:
    """What a worker process does: told by stdin, it tells by stdout.

    stdin: a pickled task, then ``start MOMENT``; ``stop``, or the end of the file, ends it. stdout: lines of JSON, ``ready``,
    ``tally``, and ``ended`` or ``failed``.
    """
    load, process = pickle.load(sys.stdin.buffer)
    plan, lanes, first = load.share(process)
    going = threading.Event()
    generator: Generator | None = None

    def tell(**told: Any) -> None:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    def listen() -> None:
        assert generator is not None
        # Not through sys.stdin: a thread that is in it when the interpreter ends is an error.
        while (line := os.read(0, 1024)).startswith(b"start "):
            generator.start(float(line.split()[1]))
            going.set()
        generator.stop()
        going.set()

    try:
        with contextlib.closing(load.context(lanes)) as context:
            generator = Generator(plan, load.lanes(context, lanes, first=first))
            generator.prepare()
            tell(ready=True)
            threading.Thread(target=listen, daemon=True).start()
            going.wait()
            while not generator.wait(_TICK_SECONDS):
                tell(tally=generator.take().to_json())
            tell(tally=generator.take().to_json())
            tell(ended=True)
    except Exception as error:
        tell(failed=f"{type(error).__name__}: {error}")


class _Live:
    """How it goes, on stderr: a table on a terminal, else a line every few seconds."""

    def __init__(self, server: str, operation: str) -> None:
        self._title = f"{operation} at {server}"
        self._live: Any = None
        self._told = 1 - _LINE_SECONDS
        self._done = 0
        self._at = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, tally: Tally, elapsed: float) -> None:
        """What is known after so many seconds; below 0 it is warming up."""
        if self._live is None and elapsed - self._told < _LINE_SECONDS:
            return
        done, latency = tally.latency.count, tally.latency
        rate = (done - self._done) / max(elapsed - max(self._at, 0.0), 1e-9)
        self._told = self._at = elapsed
        self._done = done
        if self._live is None:
            say(
                f"{elapsed:.0f} s: {done} done, {tally.failed} failed, {rate:.1f}/s, "
                f"p50 {_ms(latency.at(50)):g} ms, p99 {_ms(latency.at(99)):g} ms"
            )
            return
        from rich.table import Table

        table = Table(title=self._title)
        for column in ("seconds", "done", "failed", "now", "p50", "p99", "most"):
            table.add_column(column, justify="right")
        table.add_row(
            f"{elapsed:.1f}" if elapsed >= 0 else "warming up",
            str(done),
            f"[red]{tally.failed}" if tally.failed else "0",
            f"{rate:.1f}/s",
            *(f"{_ms(value):.1f} ms" for value in (latency.at(50), latency.at(99), latency.most)),
        )
        self._live.update(table, refresh=True)


def _ms(microseconds: float) -> float:
    return round(microseconds / 1000, 3)


def _described(histogram: Histogram) -> dict[str, float]:
    return {
        "mean": _ms(histogram.mean),
        "least": _ms(histogram.least),
        **{f"p{percent:g}": _ms(histogram.at(percent)) for percent in _SHOWN},
        "most": _ms(histogram.most),
    }


def report_of(
    tally: Tally, plan: Plan, options: BenchOptions, *, server: str = "", interrupted: bool = False
) -> dict[str, Any]:
    """The report as ``--json`` gives it. Times are milliseconds where the name says so, else seconds."""
    seconds = tally.ended
    if math.isinf(plan.count) and not interrupted:
        seconds = max(seconds, plan.duration_seconds)
    pace = plan.pace
    latency = tally.latency
    return {
        "server": server,
        "operation": options.cmd,
        "openssl": features().loaded,
        "python": platform.python_version(),
        "loop": "closed" if pace is None else "open",
        "rate_asked": None if pace is None else [pace.rate, pace.last],
        "concurrency": options.concurrency,
        "workers": options.workers,
        "interrupted": interrupted,
        "seconds": round(seconds, 3),
        "succeeded": latency.count,
        "failed": tally.failed,
        "rate": round(latency.count / seconds, 2) if seconds else 0.0,
        "latency_ms": _described(latency),
        "service_ms": _described(tally.service),
        "percentiles": [[percent, _ms(latency.at(percent))] for percent in _percents(latency.count)],
        "failures": [
            {"kind": kind, "count": count, "example": tally.examples[kind]}
            for kind, count in tally.failures.most_common()
        ],
        "timeline": [
            {
                "second": number,
                "succeeded": 0 if each is None else each.latency.count,
                "failed": 0 if each is None else each.failed,
                "latency_ms": None if each is None or not each.latency.count else _described(each.latency),
            }
            for number in range(max(tally.seconds, default=-1) + 1)
            for each in [tally.seconds.get(number)]
        ],
    }


def _percents(count: int) -> Iterator[float]:
    """Percentiles to draw, as far as there are values beyond them."""
    nines = 0
    while count >= 10**nines:
        for tenth in range(9):
            percent = 100 - (10 - tenth) * 10 ** (1 - nines)
            if count * (100 - percent) >= 99.99 or nines == 0:
                yield round(percent, 6)
        nines += 1
        if nines > 5:
            return


def chart(told: dict[str, Any]) -> str:
    """A report as SVG: throughput and latency over time, and latency by percentile."""
    timeline = told["timeline"]
    # What is not a whole second would look like a fall.
    whole = [each for each in timeline if each["second"] + 1 <= told["seconds"]] or timeline
    timed = [each for each in whole if each["latency_ms"] is not None]
    over_time = [
        Series(name=name, points=[(each["second"], each["latency_ms"][name]) for each in timed])
        for name in ("p50", "p90", "p99", "most")
    ]
    rates = [Series(name="succeeded", points=[(each["second"], each["succeeded"]) for each in whole])]
    if told["failed"]:
        rates.append(Series(name="failed", points=[(each["second"], each["failed"]) for each in whole]))
    curve = Series(name="latency", points=[(percentile_place(percent), ms) for percent, ms in told["percentiles"]])
    ticks = [(percentile_place(percent), f"{percent:g}%") for percent in (0, 50, 90, 99, 99.9, 99.99, 99.999)]
    title = f"{told['operation']} at {told['server']}: {told['rate']:g}/s, {told['succeeded']} done, {told['failed']} failed"
    return draw(
        title,
        [
            Panel(title="Throughput", series=rates, x_label="seconds", y_label="in each second"),
            Panel(title="Latency over time", series=over_time, x_label="seconds", y_label="ms", log=True),
            Panel(title="Latency by percentile", series=[curve], x_label="percentile", y_label="ms", ticks=ticks),
        ],
    )


def _give(told: dict[str, Any], options: BenchOptions, *, as_json: bool) -> None:
    if options.report is not None:
        write_durably(options.report, json.dumps(told, indent=1, ensure_ascii=False).encode() + b"\n")
    if options.svg is not None:
        write_durably(options.svg, chart(told).encode())
    if as_json:
        give_json(told)
        return
    asked = told["rate_asked"]
    loop = (
        "as fast as answered"
        if asked is None
        else f"{' to '.join(f'{rate:g}' for rate in dict.fromkeys(asked))}/s asked"
    )
    lines = [
        f"{told['operation']} at {told['server']}: {loop}, at most {told['concurrency']} at one time",
        f"{'succeeded':>10}  {told['succeeded']}, {told['rate']:g}/s for {told['seconds']:g} s",
        f"{'failed':>10}  {told['failed']}",
        *(f"{'':10}  {each['count']} {each['kind']}: {each['example']}" for each in told["failures"]),
    ]
    if told["succeeded"]:
        lines.append(f"{'latency':>10}  {_in_words(told['latency_ms'])}")
        if asked is not None:
            lines.append(f"{'service':>10}  {_in_words(told['service_ms'])}")
    give("\n".join([*lines, ""]))


def _in_words(described: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in described.items()) + " ms"
