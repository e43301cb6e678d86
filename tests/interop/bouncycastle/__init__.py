"""Bouncy Castle in Java processes: ``Peer.java``."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

from benchmarks.peers.with_bouncycastle import JARS, missing

__all__ = ["ENVIRONMENT", "command", "lines", "messages", "missing"]

SOURCE = Path(__file__).with_name("Peer.java")
ENVIRONMENT = {**os.environ, "REFERENCE": "bouncy", "SECRET": "correct horse"}


def command(*arguments: str) -> list[str]:
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, JARS)), str(SOURCE), *arguments]


def lines(*arguments: str) -> list[tuple[str, bytes]]:
    """What the program prints: a name and bytes a line."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=100, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line.rpartition(" ") for line in done.stdout.splitlines()]
    return [(name, base64.b64decode(value) if len(value) > 4 else value.encode()) for name, _, value in found]


def messages() -> list[tuple[str, bytes]]:
    """One of each body type, under a MAC and signed: ``ir/mac`` and its bytes."""
    return lines("messages")
