"""The authorities among the examples: what a command or an API that fails makes of a request."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.enums import BodyType, FailureInfo
from tests.server.device import KEYS, crmf, status_of
from tests.server.world import World, other_ca

EXAMPLES = Path(__file__).parents[2] / "examples"
B, F = BodyType, FailureInfo


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("program", "failure", "text"),
    [
        ("print('no such device'); raise SystemExit(1)", F.BAD_CERT_TEMPLATE, "no such device"),
        ("raise SystemExit(1)", F.BAD_CERT_TEMPLATE, "refused"),
        ("raise SystemExit(2)", F.SYSTEM_FAILURE, None),
        ("print('no certificate')", F.SYSTEM_FAILURE, None),
        ("import os; os.kill(os.getpid(), 9)", F.SYSTEM_FAILURE, None),
        ("print('x' * 100000)", F.SYSTEM_FAILURE, None),
        ("import time; time.sleep(600)", F.SYSTEM_FAILURE, None),
    ],
)
def test_a_command_that_fails_refuses_the_request_and_says_no_more_than_it_should(
    world: World, program: str, failure: FailureInfo, text: str | None
) -> None:
    made: Callable[..., Any] = example("authority_command").CommandAuthority
    issuer = x509.load_der_x509_certificate(world.ca.certificate)
    seconds = 0.2 if "sleep" in program else 30.0
    device = world.device()
    device.handle = world.again(made([sys.executable, "-c", program], issuer, timeout_seconds=seconds)).handle
    status = status_of(device.ask(B.IR, crmf(KEYS[0])))
    assert status.failures == (failure,)
    assert status.text == ((text,) if text else ("the server failed; try again later",))


def test_a_certificate_for_another_key_or_by_another_issuer_does_not_leave(world: World) -> None:
    module = example("authority_command")
    certificate = world.device().enroll(KEYS[1])
    program = f"print({x509.load_der_x509_certificate(certificate).public_bytes(module.Encoding.PEM).decode()!r})"
    ours, other = (x509.load_der_x509_certificate(each) for each in (world.ca.certificate, other_ca()[0]))
    for held, key in ((ours, KEYS[0]), (other, KEYS[1])):
        device = world.device()
        device.handle = world.again(module.CommandAuthority([sys.executable, "-c", program], held)).handle
        assert status_of(device.ask(B.IR, crmf(key))).failures == (F.SYSTEM_FAILURE,)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("authority_command", ["device-1: certificate", "toaster: rejection, badCertTemplate: no such device"]),
        (
            "authority_http",
            ["device-1: certificate", "device-2: certificate", "toaster: rejection, badCertTemplate: no such device"],
        ),
    ],
)
def test_what_the_examples_print(name: str, expected: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(begin) for line, begin in zip(lines, expected, strict=True))
