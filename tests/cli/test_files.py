"""Secrets from where they are named, and files that are whole or not there."""

import os
from pathlib import Path

import pytest

from opensslcmp.cli.exits import InputError
from opensslcmp.cli.files import Outputs, read_secret, sources
from opensslcmp.cli.options import general_names


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3cret")
    assert read_secret("env:A_SECRET", "--secret") == b"s3cret"


def test_secrets_come_from_the_first_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s3cret with spaces \r\nsecond line\n")
    assert read_secret(f"file:{tmp_path / 'secret'}", "--secret") == b"s3cret with spaces "


def test_secrets_come_from_a_file_descriptor() -> None:
    read, write = os.pipe()
    os.write(write, b"s3cret\n")
    os.close(write)
    assert read_secret(f"fd:{read}", "--secret") == b"s3cret"
    os.close(read)


@pytest.mark.parametrize("source", ["pass:s3cret", "s3cret"])
def test_secrets_on_the_command_line_work_with_a_warning_that_does_not_repeat_them(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_secret(source, "--secret") == b"s3cret"
    said = capsys.readouterr()
    assert "warning" in said.err
    assert "s3cret" not in said.err + said.out


@pytest.mark.parametrize("source", ["env:NOT_THERE", "file:/not/there", "fd:4242", "pass:", "file:/dev/null"])
def test_a_missing_secret_is_a_clear_error(source: str) -> None:
    with pytest.raises(InputError, match="--secret"):
        read_secret(source, "--secret")


def test_files_with_commas_and_repeated_are_the_same() -> None:
    assert sources(["a.pem, b.pem", "c.pem,"]) == ["a.pem", "b.pem", "c.pem"]


def test_outputs_appear_together_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with Outputs() as outputs:
        outputs.write(tmp_path / "a", b"first")
        outputs.write(tmp_path / "a", b"new")
        outputs.write(tmp_path / "key", b"key", secret=True)
        assert (tmp_path / "a").read_text() == "old"
        assert not (tmp_path / "key").exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "key": "key"}
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_outputs_leave_nothing_when_something_fails(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with Outputs() as outputs:
            outputs.write(tmp_path / "a", b"new")
            outputs.write(tmp_path / "key", b"key", secret=True)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_a_place_that_cannot_be_written_is_found_early(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Outputs().reserve(None, tmp_path / "not" / "there")
    with pytest.raises(InputError, match="directory"):
        Outputs().reserve(tmp_path)


def test_alternative_names_are_told_apart() -> None:
    names, critical = general_names("192.0.2.1, ::1,device.example,a@b.example,urn:x:y,critical")
    assert [type(each).__name__ for each in names] == [
        "IPAddress",
        "IPAddress",
        "DNSName",
        "RFC822Name",
        "UniformResourceIdentifier",
    ]
    assert critical
