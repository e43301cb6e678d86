"""A release is refused where tag, version and changelog do not agree."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
assert _spec is not None
assert _spec.loader is not None
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)


def git(place: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=place, check=True, capture_output=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository that is ready to be released as 1.2.3."""
    (tmp_path / "opensslcmp").mkdir()
    (tmp_path / "opensslcmp" / "_version.py").write_text('"""The version."""\n\n__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 1.2.3 (2026-12-01)\n\n- It works.\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "1.2.3")
    git(tmp_path, "tag", "v1.2.3")
    return tmp_path


def test_what_agrees_is_released(place: Path) -> None:
    assert release.problems("v1.2.3", place) == []


def unreleased(place: Path) -> None:
    text = (place / "CHANGELOG.md").read_text()
    (place / "CHANGELOG.md").write_text(text.replace("Unreleased\n", "Unreleased\n\n- More.\n"))


def another_version(place: Path) -> None:
    (place / "opensslcmp" / "_version.py").write_text('__version__ = "1.2.4"\n')


def another_commit(place: Path) -> None:
    git(place, "commit", "-q", "--allow-empty", "-m", "more")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unreleased, "something under Unreleased"),
        (unreleased, "not committed"),
        (another_version, "the tag is v1.2.3, and the version 1.2.4"),
        (another_version, "no heading '## 1.2.4"),
        (another_commit, "does not have the tag"),
    ],
)
def test_what_does_not_is_refused(place: Path, change: Callable[[Path], None], words: str) -> None:
    change(place)
    assert any(words in each for each in release.problems("v1.2.3", place))


def test_the_version_of_this_package_is_found() -> None:
    from opensslcmp import __version__

    assert not any("and the version" in each for each in release.problems(f"v{__version__}"))
