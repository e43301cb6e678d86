"""The C anchor: compiled when it is first asked for, kept under ``build/`` by the hash of its source and its OpenSSL."""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

__all__ = ["Anchored", "Case", "anchor", "anchor_command"]

SOURCE = Path(__file__).with_name("anchor.c")
BUILD = Path(__file__).resolve().parent.parent.parent / "build"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of enrollment."""

    protection: Literal["mac", "signature"] = "mac"
    confirm: Literal["implicit", "explicit"] = "implicit"
    key: Literal["ec", "rsa", "rsa3072", "ed25519"] = "ec"

    def __str__(self) -> str:
        return f"{self.key}-{self.protection}-{self.confirm}"


@dataclass(frozen=True, kw_only=True)
class Anchored:
    """What one run of the anchor took: microseconds for each transaction."""

    openssl: str
    count: int
    total: float
    client: float
    server: float
    wall: float


@cache
def _program() -> Path:
    include = os.environ.get("OPENSSLCMP_INCLUDE")
    library = os.environ.get("OPENSSLCMP_LIB")
    options = ["-O2", "-D_GNU_SOURCE", *([f"-I{include}"] if include else [])]
    link = [*([f"-L{library}", f"-Wl,-rpath,{library}"] if library else []), "-lcrypto"]
    version = subprocess.run(["openssl", "version"], check=True, capture_output=True).stdout
    name = hashlib.sha256(SOURCE.read_bytes() + version + repr((options, link)).encode()).hexdigest()[:16]
    program = BUILD / f"anchor-{name}"
    if not program.exists():
        BUILD.mkdir(exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", *options, str(SOURCE), "-o", str(fresh), *link], check=True)
        fresh.replace(program)
    return program


def anchor_command(case: Case, *more: str, count: int, warm_up: int = 10) -> list[str]:
    """The command line of one run; ``more`` are arguments that ``anchor.c`` explains."""
    options = ["-p", case.protection, "-c", case.confirm, "-k", case.key, "-n", str(count), "-w", str(warm_up)]
    return [str(_program()), *options, *more]


def anchor(case: Case, *more: str, count: int = 100, warm_up: int = 10) -> Anchored:
    """Run the anchor.

    Raises:
        subprocess.CalledProcessError: it failed; its words went to stderr.
    """
    done = subprocess.run(
        anchor_command(case, *more, count=count, warm_up=warm_up), check=True, stdout=subprocess.PIPE, text=True
    )
    return Anchored(**json.loads(done.stdout))
