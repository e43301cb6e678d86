"""The tables of versions are what a run of the matrix recorded."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def matrix() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("matrix", ROOT / ".ci" / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(importlib.import_module("sys").modules, "matrix", module)  # dataclasses look it up
        spec.loader.exec_module(module)
        yield module


def test_the_tables_say_what_was_recorded(matrix: ModuleType) -> None:
    for path, text in matrix.tables().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: .ci/matrix.py tables"


def test_a_cell_that_was_written_by_hand_is_seen(matrix: ModuleType) -> None:
    results = json.loads(matrix.RESULTS.read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = matrix.suite_table(results)
    assert table in readme
    assert matrix.with_table(readme.replace("| 0 |", "| 1 |"), "versions", table) == readme


SUITE = {
    "system": "Debian 12",
    "openssl": "3.0.22",
    "python": "3.11.2",
    "tests": "all",
    "skipped": 1,
    "failed": 0,
    "date": "2026-01-02",
}


def test_a_new_run_replaces_the_old_one_of_the_same_place(
    matrix: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(matrix, "RESULTS", tmp_path / "versions.json")
    rows: list[dict[str, Any]] = [
        SUITE | {"passed": 7},
        SUITE | {"passed": 9, "python": "3.9.1"},
        SUITE | {"passed": 8},
    ]
    for row in rows:
        matrix.record("suites", [row], ("openssl", "python", "system"))
    recorded = json.loads(matrix.RESULTS.read_text())
    assert [(row["python"], row["passed"]) for row in recorded["suites"]] == [("3.9.1", 9), ("3.11.2", 8)]
    assert matrix.suite_table(recorded).splitlines()[2:] == [
        "| Debian 12 | 3.0.22 | 3.9.1 | all | 9 | 1 | 0 | 2026-01-02 |",
        "| Debian 12 | 3.0.22 | 3.11.2 | all | 8 | 1 | 0 | 2026-01-02 |",
    ]


def test_a_run_of_some_tests_tells_which(matrix: ModuleType) -> None:
    row = SUITE | {"passed": 7, "tests": "tests/context tests/interop/test_operations.py"}
    assert " | context, interop/test_operations | 7 | " in matrix.suite_table({"suites": [row]})


def test_a_pair_that_fails_and_one_that_was_not_tried_are_told(matrix: ModuleType) -> None:
    rows = [
        {"client": "c", "client_openssl": "3.0.1", "server": "serve", "server_openssl": "3.0.1", "works": True},
        {"client": "c", "client_openssl": "3.0.1", "server": "serve", "server_openssl": "3.5.1", "works": False},
        {"client": "c", "client_openssl": "3.5.1", "server": "serve", "server_openssl": "3.0.1", "works": True},
    ]
    assert matrix.pair_table({"pairs": rows}).splitlines() == [
        "| | `serve` 3.0.1 | `serve` 3.5.1 |",
        "|---|---|---|",
        "| `c` 3.0.1 | works | fails |",
        "| `c` 3.5.1 | works |  |",
    ]


def test_what_has_no_markers_is_not_guessed(matrix: ModuleType) -> None:
    with pytest.raises(AssertionError, match="no markers of versions"):
        matrix.with_table("text", "versions", "| |")
