"""Does the server's time tell whether a reference exists?

    python -m benchmarks.reference_timing --tries 2000

sends messages under a MAC that does not verify: of a reference with another secret, of a reference that there is not, and of one
whose secret is being rotated; in random order, in one process. It compares the CPU time of each pair by the rank test of
Mann and Whitney. A small p would say that the two can be told apart. Twice the same case is there to see what the machine does by
itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from opensslcmp.asn1 import encode_body, make_header
from opensslcmp.context.protection import MacProtector, fresh_bytes, protect
from opensslcmp.credentials import SharedSecret
from opensslcmp.enums import BodyType
from opensslcmp.server import open_responder
from opensslcmp.server.ca import CA

CASES = {"wrong": "device", "unknown": "nobody", "overlapping": "rotated", "again": "device"}
PAIRS = (("wrong", "unknown"), ("wrong", "overlapping"), ("unknown", "overlapping"), ("wrong", "again"))


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


def measure(tries: int, seed: int) -> dict[str, list[int]]:
    """CPU time in ns of each try, by case."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        ca = CA.create(Path(directory) / "ca")
        ca.add_secret("device", "right")
        ca.add_secret("rotated", "right")
        ca.secrets.rotate("rotated", "new", overlap_seconds=86400)
        ca.close()
        # Else whoever fails too often is refused before any secret is looked for.
        unlimited = "[limits.rate]\nfailures_per_minute_and_address = 0\nfailures_per_minute_and_credential = 0\n"
        (Path(directory) / "ca" / "opensslcmp.toml").write_text(unlimited)
        responder = open_responder(Path(directory) / "ca")
        order = [case for case in CASES for _ in range(tries + 20)]
        chance.shuffle(order)
        times: dict[str, list[int]] = {case: [] for case in CASES}
        requests = [(case, _request(CASES[case])) for case in order]
        gc.collect()
        gc.disable()
        for case, request in requests:
            began = time.thread_time_ns()
            answer = responder.handle(request)
            times[case].append(time.thread_time_ns() - began)
            if b"does not verify" not in answer:
                raise SystemExit("something else was measured: the server did not come to compare a MAC")
        gc.enable()
        responder.close()
    return {case: values[20:] for case, values in times.items()}


def _request(reference: str) -> bytes:
    protector = MacProtector(SharedSecret(reference, "none of them"))
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
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    times = measure(chosen.tries, chosen.seed)
    pairs: list[dict[str, Any]] = []
    for one, other in PAIRS:
        name = f"{one}/{other if other != 'again' else one}"
        difference = statistics.median(times[other]) - statistics.median(times[one])
        pairs.append({"pair": name, "p": mann_whitney(times[one], times[other]), "difference_ns": difference})
    if chosen.json:
        medians = {case: statistics.median(values) for case, values in times.items()}
        print(json.dumps({"tries": chosen.tries, "median_ns": medians, "pairs": pairs}))
        return
    for each in pairs:
        print(f"{each['pair']:24} p = {each['p']:.3f}   medians differ by {each['difference_ns'] / 1000:+.2f} µs")


if __name__ == "__main__":
    main()
