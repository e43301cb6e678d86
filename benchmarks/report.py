"""All ratios of the design in one run, as a Markdown table.

Each row is measured side by side: rounds of ours and of the other in turn, the least of the rounds counts. Nothing here fails
on a time. What cannot be run here (a tool is missing) is a row that says why.
"""

import argparse
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.anchor import Case, anchor, anchor_command
from benchmarks.cases import CASES, EASIEST
from benchmarks.ends import Ends, crossings
from benchmarks.measure import Ratio, Share, cpu_microseconds, side_by_side, sums
from benchmarks.messages import MESSAGES
from benchmarks.network import Crowd, Server, Service, tool_rate
from benchmarks.peers import with_asn1crypto, with_bouncycastle, with_pyasn1
from opensslcmp._native import lib
from opensslcmp.asn1 import admit

__all__ = ["PARTS", "Row", "main"]

OLD = lib.OPENSSLCMP_LEVEL < 32
EXPLICIT = Case(confirm="explicit")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. ``at_least`` tells the direction of ``hold`` and ``aim``."""

    what: str
    against: str
    ours: str
    theirs: str
    ratio: float | None
    hold: float | None = None
    aim: float | None = None
    at_least: bool = False

    def cells(self) -> list[str]:
        """What stands in the table."""
        sign = ">=" if self.at_least else "<="
        verdict = ""
        if self.ratio is not None and self.hold is not None and self.aim is not None:
            good = [self.ratio >= goal if self.at_least else self.ratio <= goal for goal in (self.aim, self.hold)]
            verdict = "aim" if good[0] else "held" if good[1] else "**missed**"
        return [
            self.what,
            self.against,
            self.ours,
            self.theirs,
            "-" if self.ratio is None else f"{self.ratio:.2f}",
            "" if self.hold is None else f"{sign} {self.hold:g}",
            "" if self.aim is None else f"{sign} {self.aim:g}",
            verdict,
        ]

    def line(self) -> str:
        """In Markdown."""
        return f"| {' | '.join(self.cells())} |"


def _us(value: float) -> str:
    return f"{value:.0f} us"


def shares(count: int, rounds: int) -> Iterator[Row]:
    """Client and server against the anchor's."""
    for case in CASES:
        ends = Ends(case)
        ends.run(10)
        pairs: list[tuple[Share, Share]] = []
        for _ in range(rounds):
            taken = anchor(case, count=count)
            pairs.append((ends.run(count), Share(client=taken.client, server=taken.server)))
        client = sums([(ours.client, theirs.client) for ours, theirs in pairs])
        server = sums([(ours.server, theirs.server) for ours, theirs in pairs])
        yield Row(
            what=f"Session, CPU, {case}",
            against="C anchor's client",
            ours=_us(client.ours),
            theirs=_us(client.theirs),
            ratio=client.ratio,
            hold=1.1,
            aim=1.0,
        )
        yield Row(
            what=f"Responder.handle, CPU, {case}",
            against="C anchor's server",
            ours=_us(server.ours),
            theirs=_us(server.theirs),
            ratio=server.ratio,
            hold=1.0 if OLD else 1.25,
            aim=0.5 if OLD else 0.9,
        )


def checked(count: int, rounds: int) -> Iterator[Row]:
    """What a client costs that checks the new certificate, its signature too, before it confirms it: our default."""
    plain, checking = Ends(EASIEST), Ends(EASIEST, check=True)
    plain.run(10)
    checking.run(10)
    found = side_by_side(lambda: checking.run(count).client, lambda: plain.run(count).client, rounds=rounds)
    yield Row(
        what=f"Session that checks the certificate, CPU, {EASIEST}",
        against="Session that does not",
        ours=_us(found.ours),
        theirs=_us(found.theirs),
        ratio=found.ratio,
    )


def peers(count: int, rounds: int) -> Iterator[Row]:
    """Both ends against the pure-Python ones."""
    ends = Ends(EASIEST)
    ends.run(10)
    for name, enroll, hold, aim in (
        ("pyasn1 + cryptography", with_pyasn1.enroll, *((7, 12) if OLD else (15, 25))),
        ("asn1crypto + cryptography", with_asn1crypto.enroll, *((2, 4) if OLD else (5, 9))),
    ):

        def peer(enroll: Callable[[], object] = enroll) -> float:
            return cpu_microseconds(enroll, max(count // 10, 3))

        found = side_by_side(lambda: ends.run(count).total, peer, rounds=rounds)
        yield Row(
            what=f"both ends, CPU, {EASIEST}",
            against=name,
            ours=_us(found.ours),
            theirs=_us(found.theirs),
            ratio=1 / found.ratio,
            hold=hold,
            aim=aim,
            at_least=True,
        )


def java(count: int, rounds: int) -> Iterator[Row]:
    """Both ends against those of Bouncy Castle."""
    what, against = f"both ends, CPU, {EASIEST}", "Bouncy Castle, warm"
    if (reason := with_bouncycastle.missing()) is not None:
        yield Row(what=what, against=against, ours="-", theirs=reason, ratio=None)
        return
    ends = Ends(EASIEST)
    ends.run(10)
    with with_bouncycastle.BouncyCastle(count) as peer:
        found = side_by_side(lambda: ends.run(count).total, peer.round, rounds=rounds)
    hold, aim = (1.3, 2.5) if OLD else (3, 5)
    yield Row(
        what=what,
        against=against,
        ours=_us(found.ours),
        theirs=_us(found.theirs),
        ratio=1 / found.ratio,
        hold=hold,
        aim=aim,
        at_least=True,
    )


def threads(count: int, rounds: int) -> Iterator[Row]:
    """Two threads of ours against two processes of the anchor, by rate."""

    def ours() -> float:
        both = [Ends(EASIEST) for _ in range(2)]
        workers = [threading.Thread(target=ends.run, args=(count,)) for ends in both]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return (time.perf_counter() - start) / (2 * count) * 1e6

    def theirs() -> float:
        command = anchor_command(EASIEST, count=count, warm_up=0)
        start = time.perf_counter()
        for process in [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]:
            process.wait()
        return (time.perf_counter() - start) / (2 * count) * 1e6

    ours()
    found = side_by_side(ours, theirs, rounds=rounds)
    yield Row(
        what="both ends, two threads, wall",
        against="two C processes",
        ours=_us(found.ours),
        theirs=_us(found.theirs),
        ratio=1 / found.ratio,
        hold=0.85,
        aim=0.95,
        at_least=True,
    )


def counted() -> Iterator[Row]:
    """Calls between Python and C, both roles."""
    for case in (EASIEST, EXPLICIT, Case(protection="signature")):
        number = crossings(case)
        yield Row(
            what=f"cffi crossings for each message, {case}",
            against="-",
            ours=f"{number:.1f}",
            theirs="-",
            ratio=number,
            hold=8,
            aim=4,
        )


def network(count: int, rounds: int) -> Iterator[Row]:
    """Over loopback HTTP, against a server of ours in a process of its own: with a store on the disk, for which every
    enrollment waits twice, and with one in memory, which leaves the transfer.
    """
    for store in ("SQLite", "memory"):
        with Service(store.lower()) as service:
            yield from _over_http(service, store, count, rounds)


def _over_http(service: Service, store: str, count: int, rounds: int) -> Iterator[Row]:
    persistent = Server(service, EXPLICIT)
    single = Server(service, EXPLICIT, keep_alive=False)
    target = ("-r", service.reference, "-x", service.secret)
    persistent.run(5)
    for what, against, other, hold, aim in (
        (
            f"enrollments over HTTP, {store}, persistent, wall",
            "raw-socket C client",
            lambda: anchor(EXPLICIT, "-s", service.target, *target, count=count).wall,
            0.7,
            0.95,
        ),
        (
            "the same",
            "OpenSSL's own transfer, defaults",
            lambda: anchor(EXPLICIT, "-o", service.target, *target, count=5, warm_up=0).wall,
            20,
            40,
        ),
        ("the same", "`openssl cmp` for each certificate", lambda: tool_rate(service, 5), 15, 40),
        ("the same", "ours, a new connection for each message", lambda: single.run(count), None, None),
    ):
        found = side_by_side(lambda: persistent.run(count), other, rounds=rounds)
        yield Row(
            what=what,
            against=against,
            ours=_us(found.ours),
            theirs=_us(found.theirs),
            ratio=1 / found.ratio,
            hold=hold,
            aim=aim,
            at_least=True,
        )


def service(count: int, rounds: int) -> Iterator[Row]:
    """CPU of the server's processes, with HTTP and store and all, against the Responder alone.

    With PostgreSQL where ``OPENSSLCMP_BENCHMARK_POSTGRES`` is the URL of an empty database.
    """
    ends = Ends(EXPLICIT)
    ends.run(10)
    stores = {"memory": "memory", "SQLite WAL synchronous FULL": "sqlite"}
    if url := os.environ.get("OPENSSLCMP_BENCHMARK_POSTGRES"):
        stores["PostgreSQL"] = url
    for name, store in stores.items():
        with Service(store) as running:
            for connections in (1, 32):
                crowd = Crowd(running, EXPLICIT, connections)
                crowd.run(2 * connections)
                taken: list[tuple[float, float]] = []

                def process(crowd: Crowd = crowd, taken: list[tuple[float, float]] = taken) -> float:
                    taken.append(crowd.run(count))
                    return taken[-1][0]

                found = side_by_side(process, lambda: ends.run(count).server, rounds=rounds)
                rate = 1e6 / min(wall for _, wall in taken)
                held = store == "sqlite" and connections == 1
                yield Row(
                    what=f"whole server, {name}, connections: {connections} ({rate:.0f}/s), CPU of its processes",
                    against="in-process Responder, memory store",
                    ours=_us(found.ours),
                    theirs=_us(found.theirs),
                    ratio=found.ratio,
                    hold=2.5 if held else None,
                    aim=1.4 if held else None,
                )


def asn1(count: int, rounds: int) -> Iterator[Row]:
    """Decoding an ip."""
    der = MESSAGES["ip"]
    for name, decode in (
        ("asn1crypto", lambda: with_asn1crypto.PKIMessage.load(der).native),
        ("pyasn1", lambda: with_pyasn1.decode(der)),
    ):

        def peer(decode: Callable[[], object] = decode) -> float:
            return cpu_microseconds(decode, max(count // 10, 3))

        found = side_by_side(lambda: cpu_microseconds(lambda: admit(der).content(), count), peer, rounds=rounds)
        yield Row(
            what="gate and decode an ip, CPU",
            against=name,
            ours=_us(found.ours),
            theirs=_us(found.theirs),
            ratio=1 / found.ratio,
            at_least=True,
        )


def _floor(count: int) -> Iterator[Row]:
    for case in CASES:
        taken, floor = anchor(case, count=count), anchor(case, "-f", count=count)
        yield Row(
            what=f"C anchor, both ends, {case}",
            against="the same crypto alone",
            ours=_us(taken.total),
            theirs=_us(floor.total),
            ratio=Ratio(ours=taken.total, theirs=floor.total, ratio=taken.total / floor.total).ratio,
        )


PARTS: dict[str, Callable[[int, int], Iterator[Row]]] = {
    "shares": shares,
    "checked": checked,
    "peers": peers,
    "java": java,
    "threads": threads,
    "crossings": lambda _count, _rounds: counted(),
    "network": network,
    "service": service,
    "asn1": asn1,
    "floor": lambda count, _rounds: _floor(count),
}


def main() -> None:
    """``python -m benchmarks``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--count", type=int, default=100, help="transactions in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    taken = anchor(EASIEST, count=1)
    print(
        f"OpenSSL {taken.openssl}, {platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    )
    print()
    print("| what | against | ours | theirs | ratio | hold | aim | |")
    print("|---|---|---|---|---|---|---|---|")
    for name, part in PARTS.items():
        if not options.parts or name in options.parts:
            for row in part(options.count, options.rounds):
                print(row.line())
                sys.stdout.flush()
