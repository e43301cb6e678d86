"""What ``python -m tests.fuzz`` found is survived, and a few inputs more of each target; docs/testing.md."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.engine import CORPUS, Slow, Target, fuzz, try_one
from tests.fuzz.targets import TARGETS

COUNT = int(os.environ.get("OPENSSLCMP_FUZZ", "60"))
SEED = int(os.environ.get("OPENSSLCMP_SEED", "9810"))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_survives_what_was_found_and_some_more(name: str) -> None:
    if name == "coap" and importlib.util.find_spec("aiocoap") is None:
        pytest.skip("aiocoap is missing: pip install 'opensslcmp[coap]'")
    with TARGETS[name]() as target:
        assert target.name == name
        count, findings = fuzz(target, 600, SEED, COUNT + len(target.seeds) + len(target.kept()))
    assert not findings, [(each.error, each.data.hex()) for each in findings]
    assert count >= COUNT


def test_everything_in_the_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= set(TARGETS)


def test_what_a_target_does_not_survive_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: random.Random, data: bytes) -> None:
        if b"\0" in data:
            raise LookupError("a zero")

    monkeypatch.setattr("tests.fuzz.engine.CORPUS", tmp_path)
    target = Target(name="weak", seeds=[b"0\3\2\1\1"], run=run)
    _, findings = fuzz(target, 600, 1, 200)
    assert [each.error.partition(" (")[0] for each in findings] == ["LookupError: a zero"]
    path = findings[0].save("weak")
    assert target.kept() == [path.read_bytes()] == [findings[0].data]
    with pytest.raises(LookupError):
        try_one(target, random.Random(1), path.read_bytes())


def test_a_target_that_takes_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.engine._SLOW_SECONDS", 0.01)

    def run(_: random.Random, data: bytes) -> None:
        sum(range(3_000_000))

    target = Target(name="slow", seeds=[b"x"], run=run)
    with pytest.raises(Slow, match="s of CPU"):
        try_one(target, random.Random(1), b"x")


def test_the_command_tells_how_many_inputs_were_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pending", "--seconds", "0.1", "--seed", "7"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "seed 7"
    assert out[-1].startswith("all ")
    assert out[-1].endswith(" inputs, 0 findings")
