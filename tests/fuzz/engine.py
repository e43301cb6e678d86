"""What all targets share: how inputs are made of those that there are, and what counts as a finding.

A target is a function that takes bytes and returns. An exception of its own is a finding, and so is one second of CPU. The
input is written down, and is in the corpus from then on.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.mutations import mutated

CORPUS = Path(__file__).parent / "corpus"
_SLOW_SECONDS = 1.0
_MOST_FINDINGS = 5
_TOKENS = (
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b":",
        b";",
        b",",
        b'"',
        b"=",
        b" ",
        b"\t",
        b"%00",
        b"\xff",
        b"[",
        b"]",
        b"{",
        b"}",
        b"'",
        b"\\",
    ),
    *(b"-1", b"0", b"9" * 20, b"chunked", b"-----BEGIN X-----", b"\xef\xbb\xbf", b"\xe2\x80\xae"),
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something that reads what others wrote.

    Attributes:
        name: on the command line, and of its directory in the corpus.
        seeds: inputs that are right.
        run: takes one input; ``chance`` decides what the input leaves open.
        der: inputs are DER, and are changed as such too; else text and bytes.
        quick: deterministic and of bytes alone, so that it may be guided by coverage.
    """

    name: str
    seeds: Sequence[bytes] = field(repr=False)
    run: Callable[[random.Random, bytes], None]
    der: bool = True
    quick: bool = False

    def kept(self) -> list[bytes]:
        """What is in the corpus."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).glob("*"))]


class Slow(Exception):
    """An input that took too long."""


@dataclass(frozen=True)
class Finding:
    """An input that a target does not survive."""

    data: bytes = field(repr=False)
    error: str

    def save(self, target: str) -> Path:
        """Where it is in the corpus from now on."""
        path = CORPUS / target / hashlib.sha256(self.data).hexdigest()[:16]
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(self.data)
        return path


def try_one(target: Target, chance: random.Random, data: bytes) -> None:
    """Return when the target survives this input.

    Raises:
        Exception: what it did not survive; Slow when it took too long.
    """
    began = time.process_time()
    target.run(chance, data)
    if (seconds := time.process_time() - began) > _SLOW_SECONDS:
        raise Slow(f"{seconds:.1f} s of CPU")


def changed(chance: random.Random, target: Target, inputs: Sequence[bytes]) -> bytes:
    """One input made of those that there are."""
    data = chance.choice(inputs)
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = (
            mutated(chance, data) if target.der and chance.random() < 0.8 and data else _as_text(chance, data, inputs)
        )
    return data


def _as_text(chance: random.Random, data: bytes, inputs: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data) + 1)
    to = min(len(data), at + chance.choice((0, 1, 1, 2, 8, 64)))
    kind = chance.randrange(8)
    if kind == 0:
        return data[:at] + chance.choice(_TOKENS) + data[to:]
    if kind == 1:
        return data[:at] + data[to:]
    if kind == 2:
        return data[:to] + data[at:]
    if kind == 3:
        return data[:at]
    if kind == 4:
        other = chance.choice(inputs)
        return data[:at] + other[chance.randrange(len(other) + 1) :]
    if kind == 5:
        lines = data.split(b"\n")
        chance.shuffle(lines)
        return b"\n".join(lines)
    if kind == 6:
        return data[:at] + chance.choice(_TOKENS) * chance.choice((1, 16, 300)) + data[at:]
    octets = bytearray(data)
    for _ in range(chance.choice((1, 2, 8)) if octets else 0):
        octets[chance.randrange(len(octets))] = chance.randrange(256)
    return bytes(octets)


def fuzz(target: Target, seconds: float, seed: int, most: int = 1 << 62) -> tuple[int, list[Finding]]:
    """How many inputs a target was given in so many seconds, and what it did not survive.

    What is right and what was found before comes first.
    """
    chance = random.Random(f"{target.name} {seed}")
    inputs = [*target.seeds, *target.kept()]
    findings: dict[str, Finding] = {}
    end = time.monotonic() + seconds
    count = 0
    while count < most and len(findings) < _MOST_FINDINGS and (time.monotonic() < end or count < len(inputs)):
        data = inputs[count] if count < len(inputs) else changed(chance, target, inputs)
        try:
            try_one(target, chance, data)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"
            findings.setdefault(f"{type(error).__name__} {place.filename}:{place.lineno}", Finding(data, text))
        count += 1
    return count, list(findings.values())


def guided(target: Target, seconds: float) -> None:  # pragma: no cover -- ends the process
    """By coverage, until the time is over or something is found. Needs atheris (CPython 3.11)."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    if not target.quick:
        raise SystemExit(f"{target.name} is not for guiding: what it does depends on more than its input")
    inputs = [*target.seeds, *target.kept()]
    chance = random.Random(0)

    def change(data: bytes, most: int, seed: int) -> bytes:
        made = changed(random.Random(seed), target, [data or inputs[0], *inputs])
        return bytes(made[:most])

    directory = CORPUS / target.name
    directory.mkdir(exist_ok=True, parents=True)
    atheris.instrument_all()
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={int(seconds)}", f"-artifact_prefix={directory}/", "-max_len=65536"],
        lambda data: target.run(chance, data),
        custom_mutator=change,
    )
    atheris.Fuzz()
