"""What an import costs: counted in modules, since times are those of the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.server.web_client import environment

EXTRAS = {
    "aiocoap",
    "anyio",
    "fastapi",
    "greenlet",
    "httptools",
    "prometheus_client",
    "psycopg",
    "pytest",
    "rich",
    "sqlalchemy",
    "trio",
    "typer",
    "uvloop",
}


def imported(statement: str) -> set[str]:
    """The modules that a statement brings in, beside those that Python starts with."""
    code = f"import sys; before = set(sys.modules)\n{statement}\nprint(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_next_to_nothing() -> None:
    ours = {name for name in imported("import opensslcmp") if name.startswith("opensslcmp")}
    assert ours == {"opensslcmp", "opensslcmp._version"}


@pytest.mark.parametrize(
    "statement",
    [
        "from opensslcmp import *",
        "from opensslcmp import Context, Session, SharedSecret, Signer",
        "from opensslcmp.server import CA, Responder, MemoryStore",
        "from opensslcmp.testing import CA",
    ],
)
def test_no_extra_is_imported_that_is_not_used(statement: str) -> None:
    found = {name.partition(".")[0] for name in imported(statement)}
    assert found & EXTRAS == set()
    assert "cryptography" in found


def test_a_client_needs_no_server_and_no_http_server_of_python() -> None:
    found = imported("from opensslcmp import Context, Session, SharedSecret")
    layers = {".".join(name.split(".")[:2]) for name in found}
    assert layers & {"opensslcmp.server", "opensslcmp.cli", "opensslcmp.testing"} == set()
    # As many as there were when this was written, and some to spare: each costs a part of a millisecond.
    assert len(found) < 250


def test_help_starts_no_server_and_opens_no_database() -> None:
    found = imported("from opensslcmp.__main__ import main\ntry: main(['--version'])\nexcept SystemExit: pass")
    assert {name.partition(".")[0] for name in found} & {
        "sqlalchemy",
        "psycopg",
        "aiocoap",
        "uvloop",
        "prometheus_client",
    } == set()
