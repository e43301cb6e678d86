"""Run targets for a time, or one input again.

    python -m tests.fuzz all --seconds 120          all targets, two minutes in total
    python -m tests.fuzz responder --seconds 3600
    python -m tests.fuzz gate --guided --seconds 600  by coverage, when atheris is installed
    python -m tests.fuzz gate --input FILE          what a finding does

What a target does not survive is written to ``tests/fuzz/corpus/TARGET/``: a test runs all that is there (docs/testing.md).
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.fuzz.engine import Finding, Target, fuzz, guided, try_one
from tests.fuzz.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    """The command; the exit code is the number of findings."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=10.0, help="in total")
    parser.add_argument("--seed", type=int, help="of what is chosen; printed")
    parser.add_argument("--input", type=Path, help="run this one only")
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris")
    options = parser.parse_args(arguments)
    names = list(TARGETS) if options.target == "all" else [options.target]
    if options.input is not None:
        with TARGETS[names[0]]() as target:
            try_one(target, random.Random(options.seed), options.input.read_bytes())
        return 0
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}")
    if options.guided:
        with TARGETS[names[0]]() as target:
            guided(target, options.seconds)
        return 0
    findings: list[Finding] = []
    total = 0
    for name in names:
        with TARGETS[name]() as target:
            count, found = fuzz(target, options.seconds / len(names), seed)
        print(f"{name:<12} {count:>9} inputs, {len(found)} findings", flush=True)
        _show(target, found)
        findings += found
        total += count
    print(f"{'all':<12} {total:>9} inputs, {len(findings)} findings")
    return min(len(findings), 100)


def _show(target: Target, found: list[Finding]) -> None:
    for each in found:
        print(f"  {each.error}\n  python -m tests.fuzz {target.name} --input {each.save(target.name)}")


if __name__ == "__main__":
    sys.exit(main())
