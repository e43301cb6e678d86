"""``inspect`` shows any message and refuses garbage; ``doctor`` tells the versions."""

import base64
import json
from pathlib import Path

import pytest

from tests.cli.conftest import CLI

CORPUS = sorted(Path(__file__).parents[1].joinpath("data", "cmp").rglob("*.der"))


@pytest.mark.parametrize("path", CORPUS[:12], ids=lambda path: path.stem)
def test_real_messages_are_shown(cli: CLI, path: Path) -> None:
    result = cli("inspect", path)
    assert result.code == 0
    assert "transactionID" in result.out
    told = json.loads(cli("inspect", path, "--json").out)
    assert told["size"] == path.stat().st_size


@pytest.mark.parametrize("form", ["der", "hex", "base64", "pem"])
def test_a_message_may_be_der_hex_base64_or_pem_and_come_by_stdin(cli: CLI, form: str) -> None:
    der = CORPUS[0].read_bytes()
    text = base64.encodebytes(der)
    content = {
        "der": der,
        "hex": der.hex(" ").encode(),
        "base64": text,
        "pem": b"-----BEGIN PKIMESSAGE-----\n" + text + b"-----END PKIMESSAGE-----\n",
    }[form]
    assert cli("inspect", "-", stdin=content).out == cli("inspect", CORPUS[0]).out


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x30\x03\x02\x01\x00", b"\xff" * 100, bytes(10)])
def test_garbage_is_a_clear_error(cli: CLI, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "garbage").write_bytes(content)
    result = cli("inspect", tmp_path / "garbage")
    assert (result.code, result.out) == (6, "")
    assert result.err.startswith("error: ")
    told = json.loads(cli("inspect", "--json", tmp_path / "garbage").out)
    assert told["error"]["failures"] == ["badDataFormat"]


def test_a_truncated_message_is_shown_as_far_as_it_goes_and_is_a_clear_error(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(CORPUS[0].read_bytes()[:-1])
    result = cli("inspect", tmp_path / "cut")
    assert result.code == 6
    assert "transactionID" in result.out
    assert result.err.startswith("error: ")
    assert json.loads(cli("inspect", "--json", tmp_path / "cut").out)["problem"]


def test_a_missing_file_is_a_clear_error(cli: CLI) -> None:
    result = cli("inspect", "/not/there")
    assert result.code == 7
    assert "/not/there" in result.err


def test_doctor_tells_the_versions_and_the_holes(cli: CLI) -> None:
    told = json.loads(cli("doctor", "--json").out)
    result = cli("doctor")
    assert result.code == 0
    assert told["loaded"] in result.out
    assert told["vulnerabilities"][0]["id"] in result.out
