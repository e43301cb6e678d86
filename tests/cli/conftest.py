"""The command line in this process, and OpenSSL's mock server beside it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opensslcmp.cli.main import app


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


CLI = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CLI:
    """Runs a command: ``cli("info", "--server", url, env={...})``."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: object, env: dict[str, str] | None = None, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=env, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, ca.key, and new.pem, new.key under it, all made by openssl."""
    directory = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-out", "ca.pem", "-keyout", "ca.key", "-subj", "/CN=Mock CA")
    openssl("req", "-new", *key, "-out", "new.csr", "-keyout", "new.key", "-subj", "/O=Test/CN=new")
    openssl("x509", "-req", "-in", "new.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "new.pem", "-days", "9")
    return directory


@pytest.fixture
def mock(pki: Path) -> Iterator[Callable[..., str]]:
    """Starts ``openssl cmp -port 0 ...`` and gives its ``host:port``."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        # fmt: off
        command = [
            "openssl", "cmp", "-config", "", "-port", "0", "-srv_ref", "r1", "-srv_secret", "env:MOCK_SECRET",
            "-srv_cert", "ca.pem", "-srv_key", "ca.key", "-srv_trusted", "ca.pem", "-rsp_cert", "new.pem",
            "-rsp_capubs", "ca.pem", *options,
        ]
        # fmt: on
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=pki,
            env=os.environ | {"MOCK_SECRET": "s1"},
        )
        running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ACCEPT"):
                return f"127.0.0.1:{line.split()[1].rpartition(':')[2]}"
        raise AssertionError("the mock server did not start")

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
