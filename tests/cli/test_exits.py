"""The table of exit codes is the truth."""

import re

import pytest

from opensslcmp import errors
from opensslcmp.cli import exits
from opensslcmp.cli.exits import Exit, InputError, UsageError, exit_code
from opensslcmp.enums import FailureInfo

ROWS = re.findall(r"^(\d+) +([A-Z_]+) +\S", exits.__doc__ or "", re.MULTILINE)


def test_the_table_lists_every_code_once() -> None:
    assert [(int(number), name) for number, name in ROWS] == [(int(each), each.name) for each in Exit]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RuntimeError("bug"), "INTERNAL"),
        (errors.CMPError("other"), "INTERNAL"),
        (UsageError("x"), "USAGE"),
        (ValueError("x"), "USAGE"),
        (errors.Rejected(FailureInfo.BAD_POP, "no"), "REJECTED"),
        (errors.TransportError("x"), "NO_ANSWER"),
        (errors.TimedOut("x"), "NO_ANSWER"),
        (errors.ProtectionError("x"), "UNTRUSTED"),
        (errors.BadMessage(FailureInfo.BAD_TIME, "x"), "BAD_MESSAGE"),
        (InputError("x"), "INPUT"),
        (FileNotFoundError("x"), "INPUT"),
        (errors.OpenSSLError(["x"]), "INPUT"),
        (errors.Unsupported("x", "3.5"), "UNSUPPORTED"),
        (ModuleNotFoundError("x"), "UNSUPPORTED"),
        (KeyboardInterrupt(), "INTERRUPTED"),
    ],
)
def test_each_error_has_its_code(error: BaseException, name: str) -> None:
    assert exit_code(error) is Exit[name]
