"""The whole report with one command:

    python -m benchmarks.full --out DIR [PART...]

writes ``DIR/report.md`` (tables), ``DIR/report.json`` (all figures) and SVG plots. A part that is run again replaces what
``report.json`` has of it, so a long report can be made in pieces. What cannot be run here says why.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import full_store, instructions, memory, report
from benchmarks.anchor import Case, anchor
from benchmarks.ends import Ends
from benchmarks.in_flight import measure as in_flight
from benchmarks.layers import LAYERS, floor_instructions, layers, microseconds
from benchmarks.network import ROOT, Crowd, Server, Service
from opensslcmp import features
from opensslcmp.cli.plot import Bar, Bars, Panel, Series, draw, percentile_place

__all__ = ["PARTS", "Options", "Section", "main"]

EXPLICIT = Case(confirm="explicit")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much is measured.

    Attributes:
        count, rounds: transactions in a round, and rounds of which the least counts.
        seconds: of each load.
        certificates: in the fullest store.
        clients: how many at one time, of each load.
    """

    count: int = 100
    rounds: int = 3
    seconds: float = 4.0
    certificates: int = 100_000
    clients: tuple[int, ...] = (1, 4, 16, 64)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the report."""

    title: str
    about: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    data: Any = None
    plots: dict[str, str] = field(default_factory=dict)


def ratios(options: Options) -> Section:
    """What ``python -m benchmarks`` prints."""
    rows = []
    for name, part in report.PARTS.items():
        if name != "service":
            rows += [row.cells() for row in part(options.count, options.rounds)]
    return Section(
        title="Against others, side by side",
        about="CPU or wall time of one enrollment; rounds of ours and of the other in turn, the least of each counts.",
        head=("what", "against", "ours", "theirs", "ratio", "hold", "aim", ""),
        rows=rows,
        data=rows,
    )


def shapes(options: Options) -> Section:
    """Kinds of keys, long paths, large messages: CPU of each end, in process."""
    found: list[dict[str, Any]] = []
    signed = Case(protection="signature", confirm="explicit")
    kinds: dict[str, Callable[[], Ends]] = {
        "EC P-256, MAC": lambda: Ends(EXPLICIT),
        "EC P-256, signature": lambda: Ends(signed),
        "Ed25519, MAC": lambda: Ends(Case(confirm="explicit", key="ed25519")),
        "RSA-2048, MAC": lambda: Ends(Case(confirm="explicit", key="rsa")),
        "RSA-3072, MAC": lambda: Ends(Case(confirm="explicit", key="rsa3072")),
        "RSA-3072, signature": lambda: Ends(Case(protection="signature", confirm="explicit", key="rsa3072")),
        "EC, signature, 10 CAs between signer and anchor": lambda: Ends(signed, path=10),
        "EC, MAC, 100 extensions of 640 bytes": lambda: Ends(EXPLICIT, extensions=100),
        "EC, MAC, one extension of 64 kB": lambda: Ends(EXPLICIT, extensions=1, extension_bytes=64_000),
    }
    for what, make in kinds.items():
        ends = make()
        ends.run(3)
        taken = [ends.run(max(options.count // 2, 1)) for _ in range(options.rounds)]
        found.append(
            {
                "what": what,
                "client_us": round(min(share.client for share in taken)),
                "server_us": round(min(share.server for share in taken)),
                "largest_request_bytes": ends.request_bytes,
            }
        )
    return Section(
        title="Keys, paths and sizes",
        about="CPU of one enrollment in one process, memory store, explicit confirmation; the CA's key is of the same kind.",
        head=("what", "Session", "Responder", "largest request"),
        rows=[
            (row["what"], f"{row['client_us']} us", f"{row['server_us']} us", f"{row['largest_request_bytes']} bytes")
            for row in found
        ],
        data=found,
    )


def transports(options: Options) -> Section:
    """HTTP and HTTPS, connections kept or not, blocking and asyncio client; one server process, SQLite."""
    found: dict[str, float] = {}
    for https in (False, True):
        with Service(https=https) as service:
            name = "HTTPS" if https else "HTTP"
            for keep, words in ((True, "connection kept"), (False, "new connection for each message")):
                server = Server(service, EXPLICIT, keep_alive=keep)
                server.run(3)
                count = options.count if keep else max(options.count // 4, 1)
                found[f"Session, {name}, {words}"] = 1e6 / min(server.run(count) for _ in range(options.rounds))
            if not https:
                crowd = Crowd(service, EXPLICIT, 16)
                crowd.run(32)
                found["16 threads of Session, HTTP"] = 1e6 / min(
                    crowd.run(options.count)[1] for _ in range(options.rounds)
                )
                found["AsyncSession, HTTP, 16 tasks"] = max(
                    _asynchronous(service, options.count) for _ in range(options.rounds)
                )
    return Section(
        title="Transports and clients",
        about="Enrollments each second, explicit confirmation, client and server on the same machine, SQLite on the disk.",
        head=("who", "rate"),
        rows=[(name, f"{rate:.0f}/s") for name, rate in found.items()],
        data=found,
    )


def _asynchronous(service: Service, count: int, tasks: int = 16) -> float:
    import anyio

    from opensslcmp.client.async_session import AsyncSession
    from opensslcmp.client.bulk import Order

    server = Server(service, EXPLICIT)

    async def enroll() -> float:
        async with AsyncSession(server.context) as session:
            orders = [Order(subject=f"CN=device-{number}", key=server.key) for number in range(count + tasks)]
            start = time.perf_counter()
            async for outcome in session.enroll_many(orders, concurrency=tasks):
                if outcome.error is not None:
                    raise outcome.error
            return (count + tasks) / (time.perf_counter() - start)

    return anyio.run(enroll)


@contextmanager
def _stores() -> Iterator[dict[str, Callable[..., str]]]:
    """Name -> makes the place of a new store."""
    stores: dict[str, Callable[..., str]] = {"memory": lambda: "memory", "SQLite": lambda: "sqlite"}
    from tests import postgres

    if postgres.find_programs() is None:
        yield stores
        return
    server = postgres.Server(durable=True)
    try:
        yield {**stores, "PostgreSQL": server.database}
    finally:
        server.remove()


def load(options: Options) -> Section:
    """Throughput and latency by concurrency, by ``opensslcmp bench``."""
    found = []
    with _stores() as stores:
        for name, make in stores.items():
            for workers in (1, 2):
                if name == "memory" and workers > 1:
                    continue  # each process would have its own
                with Service(make(), workers=workers) as service:
                    for concurrency in options.clients:
                        told = _bench(service, options, concurrency)
                        found.append({"store": name, "server_processes": workers, **told})
    names = {(each["store"], each["server_processes"]): None for each in found}

    def line(key: str, store: str, workers: int) -> list[tuple[float, float]]:
        return [
            (math.log2(each["concurrency"]), each["latency_ms"][key] if key != "rate" else each["rate"])
            for each in found
            if (each["store"], each["server_processes"]) == (store, workers)
        ]

    def series(key: str) -> list[Series]:
        return [Series(name=_called(store, workers), points=line(key, store, workers)) for store, workers in names]

    ticks = [(math.log2(number), str(number)) for number in options.clients]
    axis: dict[str, Any] = {"x_label": "clients at one time", "ticks": ticks}
    curves = [
        Series(
            name=f"{each['concurrency']} clients",
            points=[(percentile_place(percent), ms) for percent, ms in each["percentiles"]],
        )
        for each in found
        if (each["store"], each["server_processes"]) == ("SQLite", 1)
    ]
    nines = [(percentile_place(percent), f"{percent:g}%") for percent in (0, 50, 90, 99, 99.9)]
    return Section(
        title="Throughput and latency by concurrency",
        about=(
            f"`opensslcmp bench`, closed loop, {options.seconds:g} s each, explicit confirmation, EC P-256; clients in one "
            "process (two from 16 clients on), on the same machine as the server. Stores wait for the disk."
        ),
        head=("store", "server processes", "clients", "rate", "p50", "p90", "p99", "p99.9"),
        rows=[
            (
                each["store"],
                str(each["server_processes"]),
                str(each["concurrency"]),
                f"{each['rate']:.0f}/s",
                *(f"{each['latency_ms'][key]:.1f} ms" for key in ("p50", "p90", "p99", "p99.9")),
            )
            for each in found
        ],
        data=found,
        plots={
            "throughput": draw(
                "Throughput and latency by concurrency",
                [
                    Panel(title="Enrollments each second", series=series("rate"), y_label="1/s", **axis),
                    Panel(title="Median latency", series=series("p50"), y_label="ms", log=True, **axis),
                    Panel(title="99th percentile", series=series("p99"), y_label="ms", log=True, **axis),
                ],
            ),
            "percentiles": draw(
                "Latency by percentile, SQLite, one server process",
                [Panel(title="Latency", series=curves, x_label="percentile", y_label="ms", ticks=nines, log=True)],
            ),
        },
    )


def _called(store: str, workers: int) -> str:
    return store if workers == 1 else f"{store}, {workers} processes"


def _bench(service: Service, options: Options, concurrency: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "opensslcmp", "bench", service.url, "--ref", service.reference]
    command += ["--secret", "env:BENCHMARK_SECRET", "--concurrency", str(concurrency), "--json"]
    command += ["--duration", str(options.seconds), "--warm_up", str(options.seconds / 4)]
    command += ["--workers", "2" if concurrency >= 16 else "1"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "BENCHMARK_SECRET": service.secret},
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def stores(options: Options) -> Section:
    """CPU of the server's processes by store."""
    with _stores() as made:
        if "PostgreSQL" in made:
            os.environ["OPENSSLCMP_BENCHMARK_POSTGRES"] = made["PostgreSQL"]()
        try:
            rows = [row.cells() for row in report.PARTS["service"](options.count, options.rounds)]
        finally:
            os.environ.pop("OPENSSLCMP_BENCHMARK_POSTGRES", None)
    return Section(
        title="Stores: CPU of a whole server",
        about="CPU of the server's processes for one enrollment over HTTP, beside that of the Responder alone.",
        head=("what", "against", "ours", "theirs", "ratio", "hold", "aim", ""),
        rows=rows,
        data=rows,
    )


def growth(options: Options) -> Section:
    """Is an enrollment still as fast when the store holds many certificates?"""
    sizes = [0] + [10**power for power in range(2, 9) if 10**power < options.certificates] + [options.certificates]
    found: dict[str, list[full_store.Filled]] = {}
    values: dict[str, Callable[[full_store.Filled], float]] = {
        "wall": lambda each: each.wall,
        "CPU": lambda each: each.server,
    }
    with _stores() as made, tempfile.TemporaryDirectory() as scratch:
        for name, make in made.items():
            if name != "memory":
                places = [f"{scratch}/ca{number}.db" if name == "SQLite" else make() for number in (1, 2)]
                found[name] = full_store.measure(
                    places[0], places[1], sizes, max(options.count // 2, 1), options.rounds
                )
    lines = [
        Series(
            name=f"{name}, {what}", points=[(math.log10(max(each.certificates, 10)), value(each)) for each in filled]
        )
        for name, filled in found.items()
        for what, value in values.items()
    ]
    ticks = [(float(power), "0" if power == 1 else f"{10**power:,}") for power in range(1, 9)]
    return Section(
        title="Growth with the store",
        about=(
            "One enrollment, explicit confirmation, both ends in one process, from a store that holds so many certificates "
            "already (filled by bulk SQL, with random keys): CPU of the Responder, in turn with one whose store is empty, and "
            "wall time, which waits for the disk."
        ),
        head=("store", "certificates", "Responder, CPU", "with an empty store", "ratio", "wall", "on the disk, each"),
        rows=[
            (
                name,
                f"{each.certificates:,}",
                f"{each.server:.0f} us",
                f"{each.beside:.0f} us",
                f"{each.server / each.beside:.2f}",
                f"{each.wall:.0f} us",
                # Of few, the pages that are begun would count most.
                f"{each.bytes_each:.0f} bytes" if each.certificates >= 10_000 else "",
            )
            for name, filled in found.items()
            for each in filled
        ],
        data={name: [asdict(each) for each in filled] for name, filled in found.items()},
        plots={
            "growth": draw(
                "An enrollment by what the store holds",
                [Panel(title="Time", series=lines, x_label="certificates", y_label="us", ticks=ticks)],
            )
        },
    )


def room(options: Options) -> Section:
    """Memory."""
    many = options.count * 50
    flight = _in_flight(min(many, 5000))
    found = {
        "a Session of a device with a secret of its own": memory.in_child("sessions", many)["bytes_each"],
        "an enrollment in flight (AsyncSession, server's part included)": flight["each_kb"] * 1024,
        "an open transaction in a memory store, certificate included": memory.in_child(
            "transactions", min(options.count * 9, 900)
        )["bytes_each"],
        f"what an enrollment leaves behind, of {options.count * 20}": memory.in_child("growth", options.count * 20)[
            "bytes_each"
        ],
    }
    return Section(
        title="Memory",
        about="Resident memory, by the difference before and after, each in a process of its own.",
        head=("what", "bytes"),
        rows=[(name, f"{number:.0f}") for name, number in found.items()],
        data=found | {"in flight": flight},
    )


def _in_flight(count: int) -> dict[str, float]:
    command = [sys.executable, "-m", in_flight.__module__, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def by_layer(options: Options) -> Section:
    """Where the time goes."""
    head = ("layer", *instructions.CASES)
    if shutil.which("valgrind") is None:
        return Section(title="Cost by layer", about="Not measured: valgrind is not installed.", head=head, rows=[])
    spent = {case: layers(profile) for case, profile in instructions.profiles().items()}
    bars: list[tuple[str, list[float]]] = []
    data: dict[str, Any] = {}
    for name, case in instructions.CASES.items():
        ends = Ends(case)
        ends.run(10)
        total = min(ends.run(options.count).total for _ in range(options.rounds))
        alone = min(anchor(case, "-f", count=options.count).total for _ in range(options.rounds))
        counted = floor_instructions(case)
        micros = microseconds(spent[name], total, alone / counted)
        data[name] = {
            "instructions": spent[name],
            "microseconds": micros,
            "alone": {"instructions": counted, "microseconds": alone},
        }
        bars.append((name, list(micros.values())))
    http, store = _on_top(options)
    bars.append(("mac-explicit, served", [*bars[list(instructions.CASES).index("mac-explicit")][1], http, store]))
    data["served"] = {"HTTP": http, "store": store}
    parts = [*LAYERS, "HTTP", "store"]

    def cell(case: str, layer: str) -> str:
        return f"{spent[case][layer]:,} ({data[case]['microseconds'][layer]:.0f} us)"

    rows = [(layer, *(cell(case, layer) for case in spent)) for layer in LAYERS]
    totals = {case: sum(data[case]["microseconds"].values()) for case in spent}
    rows.append(("all, both ends", *(f"{sum(spent[case].values()):,} ({totals[case]:.0f} us)" for case in spent)))
    alone_words = {case: data[case]["alone"] for case in spent}
    rows.append(
        (
            "for comparison: the signatures and MACs alone, in C",
            *(f"{each['instructions']:,} ({each['microseconds']:.0f} us)" for each in alone_words.values()),
        )
    )
    rows += [
        ("HTTP, CPU of the server", "", f"{http:.0f} us", ""),
        ("SQLite, CPU of the server", "", f"{store:.0f} us", ""),
    ]
    return Section(
        title="Cost by layer",
        about=(
            "Instructions of one enrollment, both ends in one process, that each library spends itself (callgrind). The time of "
            "libcrypto is reckoned at the pace of the same signatures and MACs alone, the rest of the measured time shared out "
            "by instructions. HTTP and store: differences of the "
            "CPU of whole servers (over HTTP with a memory store, against in process; with SQLite, against a memory store)."
        ),
        head=head,
        rows=rows,
        data=data,
        plots={
            "layers": draw(
                "CPU of one enrollment by layer",
                [
                    Bars(
                        title="Both ends; HTTP and store of the server only",
                        parts=parts,
                        bars=[Bar(name=name, values=values) for name, values in bars],
                        x_label="us",
                    )
                ],
            )
        },
    )


def _on_top(options: Options) -> tuple[float, float]:
    """CPU of a server for HTTP, and for SQLite, of one enrollment in microseconds."""
    ends = Ends(EXPLICIT)
    ends.run(10)
    alone = min(ends.run(options.count).server for _ in range(options.rounds))
    cpu = []
    for store in ("memory", "sqlite"):
        with Service(store) as service:
            crowd = Crowd(service, EXPLICIT, 1)
            crowd.run(10)
            cpu.append(min(crowd.run(options.count)[0] for _ in range(options.rounds)))
    return max(cpu[0] - alone, 0.0), max(cpu[1] - cpu[0], 0.0)


PARTS: dict[str, Callable[[Options], Section]] = {
    "ratios": ratios,
    "shapes": shapes,
    "transports": transports,
    "load": load,
    "stores": stores,
    "growth": growth,
    "memory": room,
    "layers": by_layer,
}


def _here() -> str:
    return (
        f"{features().loaded.split(' ', 2)[0]} {features().loaded.split(' ', 2)[1]}, "
        f"{platform.python_implementation()} {platform.python_version()}, cryptography {version('cryptography')}, "
        f"{platform.machine()}, {os.cpu_count()} cores"
    )


def _written(sections: dict[str, Any]) -> Iterator[str]:
    yield "# Performance report"
    for name in PARTS:
        if name not in sections:
            continue
        section = sections[name]
        yield f"\n## {section['title']}\n\n{section['about']}\n\n{section['where']}.\n"
        if section["rows"]:
            yield f"| {' | '.join(section['head'])} |"
            yield f"|{'---|' * len(section['head'])}"
            yield from (f"| {' | '.join(row)} |" for row in section["rows"])
        yield from (f"\n![{section['title']}]({plot}.svg)" for plot in section["plots"])


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m benchmarks.full``."""
    usual = Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--out", type=Path, default=Path("build/report"), help="directory for the report")
    parser.add_argument("--count", type=int, default=usual.count, help="transactions in a round")
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each load")
    parser.add_argument("--certificates", type=int, default=usual.certificates, help="in the fullest store")
    parser.add_argument("--clients", default="1,4,16,64", help="at one time, of each load")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options = Options(
        count=given.count,
        rounds=given.rounds,
        seconds=given.seconds,
        certificates=given.certificates,
        clients=tuple(map(int, given.clients.split(","))),
    )
    given.out.mkdir(parents=True, exist_ok=True)
    raw = given.out / "report.json"
    sections: dict[str, Any] = json.loads(raw.read_text(encoding="utf-8")) if raw.exists() else {}
    for name in given.parts or PARTS:
        print(f"{name}...", file=sys.stderr, flush=True)
        before = os.getloadavg()[0]
        section = PARTS[name](options)
        for plot, svg in section.plots.items():
            (given.out / f"{plot}.svg").write_text(svg, encoding="utf-8")
        where = f"{_here()}; load before: {before:.1f}"
        sections[name] = {**asdict(section), "where": where, "plots": list(section.plots), "options": asdict(options)}
        raw.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
        (given.out / "report.md").write_text("\n".join([*_written(sections), ""]), encoding="utf-8")
    print(given.out / "report.md")


if __name__ == "__main__":
    main()
