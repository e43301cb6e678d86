"""``inspect`` shows any message and refuses garbage; ``doctor`` tells the versions."""

import base64
import json
from pathlib import Path

import pytest

from opensslcmp.testing import CA
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


def test_an_exchange_as_a_sequence_diagram(cli: CLI, tmp_path: Path) -> None:
    with CA() as ca:
        ca.session().enroll(r"CN=a\;b\<c\>", generate="ec:P-256")
        sent = [each for exchange in ca.exchanges for each in (exchange.request, exchange.answer) if each]
    files = []
    for number, message in enumerate(sent):
        files.append(tmp_path / f"{number}.der")
        files[-1].write_bytes(message)
    shown = cli("inspect", "--sequence", *files)
    assert shown.code == 0
    first, *_, last = [line.strip() for line in shown.out.splitlines()]
    assert first == "sequenceDiagram"
    # What stands in a name neither ends the line nor begins an element of HTML.
    assert r"C->>S: ir: CN=a\#59;b\#60;c\#62;<br/>" in shown.out
    assert last == "S->>C: pkiconf<br/>id-PasswordBasedMac, reference device"
    assert "--sequence" in cli("inspect", *files).err
