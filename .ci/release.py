"""Look whether a tag, the version and the changelog agree, and build what is published.

Usage: release.py vX.Y.Z [DIRECTORY]; without a directory nothing is built.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """What keeps ``tag`` from being a release of the commit that is checked out; empty when nothing does."""
    text = (root / "opensslcmp" / "_version.py").read_text(encoding="utf-8")
    version = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = []
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, and the version {version}")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changes, re.MULTILINE):
        found.append(f"CHANGELOG.md has no heading '## {version} (YEAR-MONTH-DAY)'")
    unreleased = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", changes, re.MULTILINE | re.DOTALL)
    if unreleased and unreleased[1].strip():
        found.append("CHANGELOG.md has something under Unreleased")
    if _git(root, "status", "--porcelain"):
        found.append("there are changes that are not committed")
    if tag not in _git(root, "tag", "--points-at", "HEAD").split():
        found.append(f"the commit does not have the tag {tag}")
    return found


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def main(tag: str, directory: str | None = None) -> None:
    """Say what is wrong, or build."""
    if found := problems(tag):
        raise SystemExit("\n".join(found))
    if directory is not None:
        target = Path(directory).resolve()
        subprocess.run([sys.executable, "-m", "build", "--outdir", target, ROOT], check=True)
        subprocess.run([ROOT / ".ci" / "docs", target / "docs"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
