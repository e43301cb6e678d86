"""The manual pages and the reference of the commands say what the help says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opensslcmp.cli.main import EXAMPLES
from opensslcmp.cli.manual import Page, manual_page, pages, write_markdown
from tests.server.web_client import environment

PAGES = {page.name: page for page in pages()}


def test_every_command_has_a_page() -> None:
    assert {f"opensslcmp {name}" for name in EXAMPLES} <= set(PAGES)
    assert set(PAGES) - {f"opensslcmp {name}" for name in EXAMPLES} == {
        "opensslcmp",
        "opensslcmp ca",
        "opensslcmp ca secret",
        "opensslcmp ra",
    }


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_groff_has_nothing_to_say_about_a_page(page: Page) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii"], input=manual_page(page), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    shown = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    for heading in ("NAME", "SYNOPSIS", "EXIT STATUS"):
        assert f"\n{heading}\n" in shown
    for names in (names for options in page.options.values() for names, _ in options):
        assert " ".join(names.split()) in " ".join(shown.split())


def test_a_line_of_the_help_is_no_request_of_troff() -> None:
    page = Page("opensslcmp x", "It.", "", (".so /etc/passwd", "'x \\n"), "'example", {}, ())
    lines = manual_page(page).splitlines()
    assert r"\&.so /etc/passwd" in lines
    assert r"\&'x \en" in lines
    assert r"\&'example" in lines


def test_the_reference_has_every_option(tmp_path: Path) -> None:
    write_markdown(tmp_path / "commands.md")
    text = (tmp_path / "commands.md").read_text()
    enroll = text.partition("\n## opensslcmp enroll\n")[2].partition("\n## ")[0]
    for options in PAGES["opensslcmp enroll"].options.values():
        for names, _ in options:
            assert f"| `{names.replace('|', '/')}` |" in enroll
    assert EXAMPLES["enroll"].strip() in enroll


def test_one_command_writes_all_pages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opensslcmp.cli.manual", str(tmp_path / "man1")]
    subprocess.run(command, check=True, env=environment(), timeout=60)
    written = {path.name for path in (tmp_path / "man1").iterdir()}
    assert written == {page.file for page in PAGES.values()}
    assert {"opensslcmp.1", "opensslcmp-enroll.1", "opensslcmp-ca-secret-add.1"} <= written
