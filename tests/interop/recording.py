"""Keeps messages that the gate lets through while tests run, once each:

OPENSSLCMP_RECORD=DIRECTORY python -m pytest -p tests.interop.recording
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import opensslcmp.client.exchange
import opensslcmp.server.responder  # noqa: F401 -- what calls the gate in both roles
from opensslcmp.asn1 import gate

_MOST = 20_000


def pytest_configure() -> None:
    directory = Path(os.environ["OPENSSLCMP_RECORD"])
    directory.mkdir(parents=True, exist_ok=True)
    real = gate.admit
    kept: set[bytes] = set()

    def admit(message: bytes, *arguments: Any, **options: Any) -> gate.Message:
        result = real(message, *arguments, **options)
        digest = hashlib.sha256(message).digest()
        if digest not in kept and len(kept) < _MOST:
            kept.add(digest)
            (directory / f"{result.body_type.name}-{digest.hex()[:16]}.der").write_bytes(message)
        return result

    for name, module in list(sys.modules.items()):
        if name.startswith("opensslcmp") and getattr(module, "admit", None) is real:
            module.admit = admit  # type: ignore[attr-defined]
