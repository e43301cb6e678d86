"""The whole report is written: each part does its work once, with the least of everything, and nothing looks at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import full, full_store, memory
from benchmarks.anchor import Case
from benchmarks.ends import Ends
from benchmarks.instructions import CASES, by_object, total
from benchmarks.layers import LAYERS, layers, microseconds
from opensslcmp.server.sqlstore import SQLStore

LEAST = ["--count", "1", "--rounds", "1", "--seconds", "0.1", "--certificates", "150", "--clients", "2"]

# 40 enrollments are in a profile. Lines after "calls=" are what was spent elsewhere.
PROFILE = """\
version: 1
positions: line
events: Ir
summary: 40000

ob=(1) /usr/lib/libcrypto.so.3
fl=(1) ???
fn=(1) SHA256
0 16000
cob=(2) /usr/lib/libc.so.6
cfn=(2) malloc
calls=3 0
0 4000
+3 4000

ob=(2)
fn=(2)
0 4000
ob=(3) /home/python/bin/python3.11
fn=(3) eval
* 8000
ob=(4) /home/python/site-packages/cryptography/hazmat/bindings/_rust.abi3.so
fn=(4) parse
-2 4000
ob=(5) /home/python/opensslcmp/_native/_openssl.abi3.so
fn=(5) call
1 2000
ob=(6) /home/python/_cffi_backend.cpython-311.so
fn=(6) wrap
1 2000
"""


@contextmanager
def only_sqlite() -> Iterator[dict[str, Callable[[], str]]]:
    yield {"SQLite": lambda: "sqlite"}


def section(title: str, options: full.Options) -> full.Section:
    return full.Section(title=title, about="", head=("a", "b"), rows=[("1", "2")])


def told(out: Path, part: str) -> list[list[str]]:
    """The rows of a part, as written, its plots looked at."""
    written = json.loads((out / "report.json").read_text())[part]
    for plot in written["plots"]:
        ElementTree.fromstring((out / f"{plot}.svg").read_text())
        assert f"({plot}.svg)" in (out / "report.md").read_text()
    assert f"## {written['title']}" in (out / "report.md").read_text()
    rows: list[list[str]] = written["rows"]
    assert all(len(row) == len(written["head"]) for row in rows)
    return rows


@pytest.mark.parametrize(("part", "rows"), [("transports", 6), ("load", 2), ("growth", 3)])
def test_a_part_measures_what_it_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str, rows: int) -> None:
    monkeypatch.setattr(full, "_stores", only_sqlite)
    full.main([*LEAST, "--out", str(tmp_path), part])
    assert len(told(tmp_path, part)) == rows


def test_parts_are_replaced_one_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for round_ in (1, 2):
        for name in ("ratios", "stores"):
            monkeypatch.setitem(full.PARTS, name, partial(section, f"{name} {round_}"))
        full.main(["--out", str(tmp_path), *(["ratios", "stores"] if round_ == 1 else ["stores"])])
    assert told(tmp_path, "ratios") == told(tmp_path, "stores") == [["1", "2"]]
    words = (tmp_path / "report.md").read_text()
    assert words.index("## ratios 1") < words.index("## stores 2")


def test_no_such_part_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        full.main(["--out", str(tmp_path), "nonsense"])
    assert "no such part: nonsense" in capsys.readouterr().err


def test_a_signer_ten_authorities_below_the_anchor_is_served() -> None:
    ends = Ends(Case(protection="signature"), path=10)
    ends.enroll()
    assert ends.request_bytes > 4000  # the path goes along


@pytest.mark.parametrize(("number", "length"), [(100, 640), (1, 64_000)])
def test_large_requests_get_all_they_ask_for(number: int, length: int) -> None:
    ends = Ends(Case(confirm="explicit"), extensions=number, extension_bytes=length)
    ends.enroll()
    assert ends.request_bytes > 64_000
    (record,) = ends.responder.store.every_certificate()
    assert len(record.certificate) > number * length


def test_a_store_is_filled_by_bulk_sql_and_enrolled_from(tmp_path: Path) -> None:
    place = str(tmp_path / "ca.db")
    empty, filled = full_store.measure(place, str(tmp_path / "empty.db"), [0, 300], 1, rounds=1)
    assert (empty.certificates, filled.certificates) == (0, 300)
    assert 300 < filled.bytes_each < 10_000
    store = SQLStore(place)
    held = store.certificates()
    store.close()
    assert held == 300 + 5 + 1  # what was enrolled after


def test_memory_is_read_for_sessions_transactions_and_growth() -> None:
    assert memory.sessions(10)["count"] == 10
    assert memory.transactions(5)["count"] == 5
    assert memory.growth(3)["count"] == 3


def test_a_profile_is_shared_out_among_the_libraries_and_nothing_is_lost() -> None:
    assert total(PROFILE) == 1000
    assert sum(by_object(PROFILE).values()) == total(PROFILE)
    spent = layers(PROFILE)
    assert spent == dict(zip(LAYERS, (500, 100, 100, 200, 100), strict=True))
    found = microseconds(spent, total=100.0, pace=0.1)
    assert found["libcrypto"] == 50
    assert found["CPython"] == 2 * found["DER (Rust)"] == 20
    assert sum(found.values()) == pytest.approx(100)


def test_layers_are_told_in_instructions_and_microseconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: "valgrind")
    monkeypatch.setattr("benchmarks.instructions.profiles", lambda: dict.fromkeys(CASES, PROFILE))
    monkeypatch.setattr(full, "floor_instructions", lambda _case: 300)
    monkeypatch.setattr(full, "_on_top", lambda _options: (120.0, 80.0))
    full.main([*LEAST, "--out", str(tmp_path), "layers"])
    rows = {row[0]: row[1:] for row in told(tmp_path, "layers")}
    assert rows["libcrypto"][0].startswith("500 (")
    assert rows["all, both ends"][0].startswith("1,000 (")
    assert rows["SQLite, CPU of the server"][1] == "80 us"


def test_without_valgrind_the_layers_say_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    full.main([*LEAST, "--out", str(tmp_path), "layers"])
    assert not told(tmp_path, "layers")
    assert "valgrind is not installed" in (tmp_path / "report.md").read_text()
