"""Instructions of an enrollment, counted by valgrind: a figure that does not wander with what else a machine does.

    python -m benchmarks.instructions            compare with what is recorded; exit 1 beyond 3 %
    python -m benchmarks.instructions --record   count, and record as the new figures

Both ends are in it, with a memory store. A child runs all cases under valgrind, which writes its counters down and starts anew
whenever ``getloadavg(3)`` is called: nothing else calls it, so it marks where the enrollments of a case begin and end.

Counts depend on compilers, so they are compared only with those of the same OpenSSL and ``cryptography`` (without their last
digits) and the same build of CPython; a change that means to cost more records its new figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from benchmarks.anchor import Case
from benchmarks.ends import Ends
from opensslcmp import features

__all__ = ["CASES", "by_object", "count", "main", "profiles", "total"]

CASES = {
    "mac-implicit": Case(),
    "mac-explicit": Case(confirm="explicit"),
    "signature-explicit": Case(protection="signature", confirm="explicit"),
}
_RECORD = Path(__file__).with_name("instructions.json")
_TOLERANCE = 0.03
_WARM_UP, _COUNTED = 20, 40


def profiles() -> dict[str, str]:
    """What callgrind wrote about each case.

    Raises:
        RuntimeError: valgrind failed; its words.
    """
    with tempfile.TemporaryDirectory() as place:
        command = ["valgrind", "--tool=callgrind", "--dump-before=getloadavg", f"--callgrind-out-file={place}/out"]
        done = subprocess.run(
            [*command, sys.executable, "-m", "benchmarks.instructions", "--child"],
            # Hashes that differ make dicts, and so counts, differ.
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        # out.1 is what comes before the first case, out.2 the first case, out.3 what comes before the second, and so on.
        texts = [Path(place, f"out.{2 * number}").read_text(encoding="utf-8") for number in range(1, len(CASES) + 1)]
    return dict(zip(CASES, texts, strict=True))


def total(profile: str) -> int:
    """Instructions of one enrollment."""
    found = re.search(r"^summary: (\d+)", profile, re.MULTILINE)
    assert found is not None
    return int(found[1]) // _COUNTED


def by_object(profile: str) -> dict[str, int]:
    """Instructions of one enrollment that each shared library spent itself, by its path.

    Source: valgrind's manual, "Callgrind Format Specification".
    """
    names: dict[str, str] = {}
    spent: Counter[str] = Counter()
    current, called = "", False
    for line in profile.splitlines():
        if line.startswith("ob="):
            number, _, name = line[3:].partition(" ")
            current = names.setdefault(number, name or number)
        elif line.startswith("cob="):
            number, _, name = line[4:].partition(" ")
            names.setdefault(number, name or number)
        elif line.startswith("calls="):
            called = True  # the next line has what was spent in there
        elif line[:1].isdigit() or line[:1] in {"+", "-", "*"}:
            if not called:
                spent[current] += int(line.split()[1])
            called = False
    return {name: number // _COUNTED for name, number in spent.items()}


def count() -> dict[str, int]:
    """Instructions of one enrollment, for each case.

    Raises:
        RuntimeError: valgrind failed; its words.
    """
    return {case: total(profile) for case, profile in profiles().items()}


def _child() -> None:
    for case in CASES.values():
        ends = Ends(case, check=True)
        ends.run(_WARM_UP)
        os.getloadavg()
        ends.run(_COUNTED)
        os.getloadavg()


def _here() -> str:
    openssl = ".".join(features().loaded.split()[1].split(".")[:2])
    python = f"CPython {platform.python_version()} by {platform.python_compiler()}"
    return f"OpenSSL {openssl}, {python}, cryptography {version('cryptography').split('.')[0]}, {platform.machine()}"


def main() -> int:
    """``python -m benchmarks.instructions``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="record as the new figures")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child()
        return 0
    if shutil.which("valgrind") is None:
        print("not counted: valgrind is not installed")
        return 0
    recorded = json.loads(_RECORD.read_text(encoding="utf-8")) if _RECORD.exists() else {}
    here = _here()
    before = recorded.get(here, {})
    print(here)
    worse = False
    found = count()
    for case, number in found.items():
        line = f"{case:20} {number:>10,} instructions"
        if case in before:
            change = number / before[case] - 1
            line += f", recorded {before[case]:,}: {change:+.1%}"
            worse |= change > _TOLERANCE
        else:
            line += ", none recorded for these versions"
        print(line, flush=True)
    if options.record:
        _RECORD.write_text(json.dumps({**recorded, here: found}, indent=4, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    if worse:
        print(
            f"more than {_TOLERANCE:.0%} above what is recorded; if that is meant, record it: --record", file=sys.stderr
        )
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
