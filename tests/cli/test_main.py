"""The command as such: help, version, what is missing, Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import opensslcmp
from opensslcmp.__main__ import main
from opensslcmp.cli.main import EXAMPLES
from tests.cli.conftest import CLI

ROOT = Path(opensslcmp.__file__).parents[1]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]]), "COLUMNS": "120"} | more


def test_the_version_is_told(cli: CLI) -> None:
    assert cli("--version").out == f"opensslcmp {opensslcmp.__version__}\n"


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_help_has_the_example_as_it_is_to_be_pasted(cli: CLI, command: str) -> None:
    result = cli(*command.split(), "--help")
    assert result.code == 0
    for line in EXAMPLES[command].strip().splitlines():
        assert line.strip() in result.out


def test_no_command_shows_the_commands(cli: CLI) -> None:
    result = cli()
    assert "enroll" in result.out + result.err


def test_main_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["inspect", "/not/there"]) == 7
    assert main(["nonsense"]) == 2


def test_without_typer_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("opensslcmp.__main__.find_spec", lambda name: None)
    assert main([]) == 8
    assert "pip install 'opensslcmp[cli]'" in capsys.readouterr().err


def test_the_entry_module_imports_nothing_that_may_be_missing() -> None:
    code = "import sys; sys.modules['typer'] = None; import opensslcmp.__main__"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_shell_completion_is_offered() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "opensslcmp"],
        env=environment(_OPENSSLCMP_COMPLETE="complete_bash", COMP_WORDS="opensslcmp en", COMP_CWORD="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["enroll", "enroll-many"]


def test_ctrl_c_ends_with_130_and_a_word(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        command = [
            sys.executable,
            "-m",
            "opensslcmp",
            "info",
            "--server",
            f"{host}:{port}",
            "--ref",
            "r",
            "--secret",
            "env:S",
        ]
        with subprocess.Popen(command, env=environment(S="secret"), stderr=subprocess.PIPE, text=True) as process:
            connection, _ = server.accept()
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, words = process.communicate(timeout=20)
            connection.close()
    assert process.returncode == 130
    assert "interrupted" in words
    assert "Traceback" not in words


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("arguments", [["--help"], ["enroll", "--help"], ["doctor"]])
def test_output_that_cannot_be_written_is_said_without_a_traceback(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "opensslcmp", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            check=False,
        )
    assert result.returncode == 7
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
