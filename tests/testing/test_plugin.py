"""The plugin in a pytest of its own, and the page that shows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing-your-service.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STARTS = """
import sys

def test_nothing_of_it_is_imported():
    ours = {name for name in sys.modules if name.partition(".")[0] == "opensslcmp"}
    assert ours == {"opensslcmp", "opensslcmp._version", "opensslcmp.testing", "opensslcmp.testing.plugin"}
    assert not {"cffi", "_cffi_backend", "cryptography"} & set(sys.modules)

def test_but_by_a_fixture(cmp_session):
    assert "opensslcmp.testing.ca" in sys.modules
"""


def python(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python where this very package is found, in a directory without settings of pytest."""
    paths = os.pathsep.join([str(ROOT), *sys.path[1:]])
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def pytest_says(directory: Path, *options: str) -> str:
    return python(directory, "-m", "pytest", "-q", "-p", "opensslcmp.testing.plugin", "-W", "error", *options).stdout


def test_the_test_file_of_the_page_passes(tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text(BLOCKS[0])
    said = pytest_says(tmp_path, "-p", "randomly")
    assert f"{BLOCKS[0].count('def test_')} passed" in said, said


@pytest.mark.parametrize("block", BLOCKS[1:], ids=["without pytest", "a fault of ones own"])
def test_the_other_examples_of_the_page_run(tmp_path: Path, block: str) -> None:
    done = python(tmp_path, "-c", block)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_example_of_the_page_is_tested() -> None:
    assert len(BLOCKS) == 3


def test_every_fault_is_on_the_page() -> None:
    from opensslcmp.testing import faults

    missing = [name for name in faults.__all__ if f"`{name}(" not in PAGE and name not in {"Fault", "Reply", "Request"}]
    assert missing == []


def test_pytest_starts_without_importing_anything(tmp_path: Path) -> None:
    (tmp_path / "test_start.py").write_text(STARTS)
    said = pytest_says(tmp_path)
    assert "2 passed" in said, said


def test_pytest_finds_the_plugin_where_the_package_is_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nopensslcmp = "opensslcmp.testing.plugin"\n' in text
