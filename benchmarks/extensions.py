"""An enrollment with the extension of ``opensslcmp-binary`` beside one with that of the system's OpenSSL: CPU of both ends.

    python -m benchmarks.extensions [--count N] [--rounds N]

Processes of one and the other in turn; the least of the rounds counts. Needs both extensions.
"""

import argparse
import json
import os
import subprocess
import sys

from benchmarks.ends import Ends
from benchmarks.instructions import CASES
from benchmarks.measure import sums
from opensslcmp import features

__all__ = ["main", "measured"]


def measured(extension: str, count: int) -> dict[str, float | str]:
    """Microseconds of each case, by a process of its own, and its OpenSSL."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.extensions", "--child", "--count", str(count)],
        env=os.environ | {"OPENSSLCMP_IMPL": extension},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float | str] = json.loads(done.stdout)
    return found


def _child(count: int) -> None:
    taken: dict[str, float | str] = {"openssl": features().loaded.split()[1]}
    for name, case in CASES.items():
        ends = Ends(case, check=True)
        ends.run(20)
        taken[name] = ends.run(count).total
    print(json.dumps(taken))


def main() -> None:
    """``python -m benchmarks.extensions``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extensions", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="enrollments of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.count)
        return
    rounds = [(measured("binary", options.count), measured("system", options.count)) for _ in range(options.rounds)]
    binary, system = rounds[0]
    print(f"| | binary ({binary['openssl']}) | system ({system['openssl']}) | ratio |\n|---|---|---|---|")
    for name in CASES:
        least = sums([(float(ours[name]), float(theirs[name])) for ours, theirs in rounds])
        print(f"| {name} | {least.ours:.0f} us | {least.theirs:.0f} us | {1 / least.ratio:.1f} times as fast |")


if __name__ == "__main__":
    main()
