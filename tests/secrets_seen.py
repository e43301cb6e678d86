"""Every secret that a test makes is remembered, and no test may print, log or fail with one: not the code, nor its tests.

Short ones, such as "secret", are words too, and are not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest

from opensslcmp.credentials import SharedSecret

__all__ = ["SEEN", "pytest_runtest_makereport", "shown"]

SEEN: set[bytes] = set()
_LEAST_BYTES = 12
_KEY = re.compile(r"-----BEGIN (?!ENCRYPTED |PUBLIC )[A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/]")
_made = SharedSecret.__init__


def _remembering(self: SharedSecret, *arguments: Any, **options: Any) -> None:
    _made(self, *arguments, **options)
    if len(self.secret) >= _LEAST_BYTES:
        SEEN.add(self.secret)


SharedSecret.__init__ = _remembering  # type: ignore[method-assign]


def shown(text: str) -> list[bytes]:
    """The secrets in a text."""
    found = [each for each in SEEN if each.decode("utf-8", "backslashreplace") in text or each.hex() in text]
    return found + ([b"PRIVATE KEY-----"] if _KEY.search(text) else [])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test whose captured output, log or traceback shows a secret."""
    report = yield
    text = "\n".join([*(content for _, content in report.sections), report.longreprtext])
    if report.outcome == "passed" and (found := shown(text)):
        report.outcome = "failed"
        report.longrepr = f"{len(found)} secrets in what this test printed or logged"
    return report
