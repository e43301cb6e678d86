"""The types that users see: ``tests/typing/sample.py`` by pyright; mypy --strict reads it with everything else."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = (ROOT / "tests" / "typing" / "sample.py").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(find_spec("basedpyright") is None, reason="basedpyright is not installed")


def complaints(directory: Path, program: str) -> list[str]:
    """What pyright has to say about a program, strictly, outside of our sources and settings."""
    (directory / "program.py").write_text(program)
    settings = {"typeCheckingMode": "strict", "include": ["program.py"], "extraPaths": [str(ROOT)]}
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "--level", "error"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout, done.stderr
    return [each["message"] for each in json.loads(done.stdout)["generalDiagnostics"]]


@pytest.mark.timeout(300)
def test_pyright_has_nothing_to_say_about_a_users_program(tmp_path: Path) -> None:
    assert complaints(tmp_path, SAMPLE) == []


@pytest.mark.timeout(300)
def test_pyright_finds_what_is_wrong_in_a_users_program(tmp_path: Path) -> None:
    wrong = SAMPLE.replace(
        'session.enroll("CN=device-1", generate="ec:P-256", wait=wait)', "session.enroll(generate=256)"
    )
    assert wrong != SAMPLE
    assert any("256" in each or "enroll" in each or "int" in each for each in complaints(tmp_path, wrong))
