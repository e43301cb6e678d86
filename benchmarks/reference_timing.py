"""Does the server's time tell whether a reference exists?

    python -m benchmarks.reference_timing --tries 2000
    python -m benchmarks.reference_timing --tries 2000 --http

sends messages under a MAC that does not verify: of a reference with another secret, of one whose secret nobody used yet, of a
reference that there is not, of another such each time, and of one whose secret is being rotated; in random order. The server
is in this process, or with ``--http`` one of its own behind its HTTP front end. It compares the times of each pair by
the rank test of Mann and Whitney: CPU of this thread and wall, over HTTP wall only. A small p would say that the two can be told
apart. Twice the same case is there to see what the machine does by itself: of many p, one in a hundred is below 0.01 by chance.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from http import client as http_client
from itertools import groupby
from pathlib import Path
from typing import Any

from opensslcmp.asn1 import encode_body, make_header
from opensslcmp.context.protection import MacProtector, fresh_bytes, protect
from opensslcmp.credentials import SharedSecret
from opensslcmp.enums import BodyType
from opensslcmp.server import open_responder
from opensslcmp.server.ca import CA

CASES = {
    "wrong": "device",
    "unused": "unused",
    "unknown": "nobody",
    "fresh": "",
    "overlapping": "rotate",
    "again": "device",
}
"""References, all of one length; none: another one each time."""
PAIRS = (
    ("wrong", "unknown"),
    ("wrong", "fresh"),
    ("unused", "unknown"),
    ("wrong", "overlapping"),
    ("unknown", "overlapping"),
    ("wrong", "again"),
)
_WARM = 20


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sided p of the rank test, by the normal approximation with ties and continuity.

    Source: Mann and Whitney, Annals of Mathematical Statistics 18 (1947), 50.
    """
    n, m = len(first), len(second)
    marked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    rank, ranks, ties = 1, 0.0, 0
    for _, group in groupby(marked, key=lambda each: each[0]):
        equal = [mark for _, mark in group]
        count = len(equal)
        ranks += (rank + (count - 1) / 2) * equal.count(0)
        ties += count**3 - count
        rank += count
    u = ranks - n * (n + 1) / 2
    variance = n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1)))
    if variance <= 0:
        return 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def measure(tries: int, seed: int, http: bool = False) -> dict[str, dict[str, list[int]]]:
    """By clock ("cpu", "wall"): ns of each try, by case."""
    chance = random.Random(seed)
    order = [case for case in CASES for _ in range(tries + _WARM)]
    chance.shuffle(order)
    requests = [(case, _request(CASES[case] or f"{number:06d}")) for number, case in enumerate(order)]
    times: dict[str, dict[str, list[int]]] = {clock: {case: [] for case in CASES} for clock in ("cpu", "wall")}
    with tempfile.TemporaryDirectory() as name, _server(Path(name) / "ca", http) as handle:
        gc.collect()
        gc.disable()
        for case, request in requests:
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            answer = handle(request)
            times["cpu"][case].append(time.thread_time_ns() - cpu)
            times["wall"][case].append(time.perf_counter_ns() - wall)
            if b"does not verify" not in answer:
                raise SystemExit("something else was measured: the server did not come to compare a MAC")
        gc.enable()
    if http:
        del times["cpu"]  # the client's
    return {clock: {case: values[_WARM:] for case, values in found.items()} for clock, found in times.items()}


@contextlib.contextmanager
def _server(directory: Path, http: bool) -> Iterator[Callable[[bytes], bytes]]:
    """A CA with secrets, in SQLite; answers a message."""
    with contextlib.closing(CA.create(directory)) as ca:
        for reference in ("device", "unused", "rotate"):
            ca.add_secret(reference, "right")
        ca.secrets.rotate("rotate", "new", overlap_seconds=86400)
    # Else whoever fails too often is refused before any secret is looked for.
    unlimited = "[limits.rate]\nfailures_per_minute_and_address = 0\nfailures_per_minute_and_credential = 0\n"
    (directory / "opensslcmp.toml").write_text(unlimited)
    if not http:
        with contextlib.closing(open_responder(directory)) as responder:
            responder.handle(_enrolled("device"))
            yield responder.handle
        return
    command = [sys.executable, "-m", "opensslcmp", "serve", str(directory), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        found = next(filter(None, (re.search(r"http://([\d.]+):(\d+)", line) for line in server.stdout)))
        connection = http_client.HTTPConnection(found[1], int(found[2]), timeout=30)

        def ask(request: bytes) -> bytes:
            connection.request("POST", "/.well-known/cmp", request, {"Content-Type": "application/pkixcmp"})
            return connection.getresponse().read()

        try:
            ask(_enrolled("device"))
            yield ask
        finally:
            connection.close()
            server.terminate()


def _enrolled(reference: str) -> bytes:
    """A message under the right secret, after which the server has used it."""
    return _request(reference, "right")


def _request(reference: str, secret: str = "none of them") -> bytes:
    protector = MacProtector(SharedSecret(reference, secret))
    header = make_header(
        sender=protector.sender_name,
        recipient=b"0\x00",
        transaction_id=fresh_bytes(16),
        sender_nonce=fresh_bytes(16),
    )
    return protect(header, BodyType.GENM, encode_body(BodyType.GENM, []), protector)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tries", type=int, default=2000, help="of each case")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--http", action="store_true", help="ask a server of its own over HTTP")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    times = measure(chosen.tries, chosen.seed, chosen.http)
    pairs: list[dict[str, Any]] = []
    for clock, found in times.items():
        for one, other in PAIRS:
            name = f"{one}/{other if other != 'again' else one}"
            difference = statistics.median(found[other]) - statistics.median(found[one])
            p = mann_whitney(found[one], found[other])
            pairs.append({"clock": clock, "pair": name, "p": p, "difference_ns": difference})
    if chosen.json:
        medians = {
            clock: {case: statistics.median(values) for case, values in found.items()} for clock, found in times.items()
        }
        print(json.dumps({"tries": chosen.tries, "median_ns": medians, "pairs": pairs}))
        return
    for each in pairs:
        told = f"p = {each['p']:.3f}   medians differ by {each['difference_ns'] / 1000:+.2f} µs"
        print(f"{each['clock']:5}{each['pair']:24} {told}")


if __name__ == "__main__":
    main()
