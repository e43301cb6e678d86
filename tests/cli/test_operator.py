"""What an operator looks for, changes and keeps: search, secrets, rollover, backup and restore."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509

from opensslcmp.context.certificates import facts
from opensslcmp.server import CA, open_responder
from opensslcmp.server.store import CertificateState
from tests.cli.conftest import CLI
from tests.server.device import KEYS, extension, mac_device
from tests.server.world import Clock


@pytest.fixture
def place(tmp_path: Path) -> Path:
    ca = CA.create(tmp_path / "ca", "CN=Operated CA")
    ca.add_secret("plant", "secret")
    ca.add_secret("office", "secret")
    ca.close()
    return tmp_path / "ca"


@pytest.fixture
def serials(place: Path) -> list[str]:
    """Serial numbers of four certificates."""
    responder = open_responder(place)
    found = []
    for number, reference in enumerate(("plant", "plant", "office", "office")):
        device = mac_device(responder.handle, Clock(), reference, "secret")
        san = extension(x509.SubjectAlternativeName([x509.DNSName(f"host-{number}.example")]))
        certificate = device.enroll(KEYS[0], f"O=Works,CN=device-{number}", extensions=[san])
        found.append(f"{facts(certificate).serial_number:x}")
    responder.close()
    return found


def found(cli: CLI, place: Path, *options: object) -> list[str]:
    result = cli("ca", "search", place, *options, "--json")
    assert result.code == 0, result.err
    return [each["serial"] for each in json.loads(result.out)["certificates"]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [0, 1, 2, 3]),
        (["--subject", "DEVICE-2"], [2]),
        (["--san", "host-1.EXAMPLE"], [1]),
        (["--san", "nowhere"], []),
        (["--state", "valid"], [0, 1, 2, 3]),
        (["--state", "revoked", "--state", "updated"], []),
        (["--identity", "mac:office"], [2, 3]),
        (["--expires-before", "1"], []),
        (["--expires-before", "9000"], [0, 1, 2, 3]),
        (["--expires-before", "2999-01-01", "--issued-after", "2026-01-01"], [0, 1, 2, 3]),
        (["--issued-after", "2999-01-01T00:00:00+02:00"], []),
        (["--identity", "mac:plant", "--subject", "device-1"], [1]),
    ],
)
def test_certificates_are_found_by_all_that_is_given(
    cli: CLI, place: Path, serials: list[str], options: list[str], expected: list[int]
) -> None:
    assert found(cli, place, *options) == [serials[number] for number in expected]


def test_a_serial_number_is_found_by_its_beginning_with_or_without_colons(
    cli: CLI, place: Path, serials: list[str]
) -> None:
    digits = serials[2][:6]
    assert found(cli, place, "--serial", digits.upper()) == [serials[2]]
    assert found(cli, place, "--serial", f"{digits[:2]}:{digits[2:4]}:{digits[4:]}") == [serials[2]]


def test_pages_follow_each_other(cli: CLI, place: Path, serials: list[str]) -> None:
    first = json.loads(cli("ca", "search", place, "--limit", 3, "--json").out)
    assert [each["serial"] for each in first["certificates"]] == serials[:3]
    assert first["after"] == serials[2]
    last = json.loads(cli("ca", "search", place, "--limit", 3, "--after", first["after"], "--json").out)
    assert [each["serial"] for each in last["certificates"]] == serials[3:]
    assert last["after"] is None
    assert f"--after {serials[0]}" in cli("ca", "search", place, "--limit", 1).err


@pytest.mark.parametrize(
    "options",
    [
        ["--serial", "xyz"],
        ["--state", "good"],
        ["--expires-before", "soon"],
        ["--issued-after", "7"],
        ["--identity", "someone"],
        ["--identity", "cert:xx"],
        ["--revoke", "removeFromCRL"],
    ],
)
def test_what_is_no_search_is_a_usage_error(cli: CLI, place: Path, options: list[str]) -> None:
    result = cli("ca", "search", place, *options)
    assert result.code == 2
    assert options[0].replace("-", "_")[2:] in result.err.replace("-", "_")
    assert cli("ca", "search", place, "--after", "99").code == 7


def states(place: Path) -> list[CertificateState]:
    ca = CA.open(place)
    result = [each.state for each in ca.store.every_certificate()]
    ca.close()
    return result


def test_what_was_found_is_revoked_once_somebody_says_so(cli: CLI, place: Path, serials: list[str]) -> None:
    revoke = ("ca", "search", place, "--identity", "mac:plant", "--revoke", "keyCompromise")
    assert cli(*revoke).code == 2  # nobody can be asked
    assert cli(*revoke, "--limit", 1, "--yes").code == 2  # not all of them would be seen
    assert set(states(place)) == {CertificateState.VALID}
    result = cli(*revoke, "--yes", "--json")
    assert json.loads(result.out) == {"revoked": serials[:2], "failed": {}}
    assert states(place) == [CertificateState.REVOKED] * 2 + [CertificateState.VALID] * 2
    assert "nothing was found" in cli(*revoke, "--yes").err


def test_the_audit_log_tells_what_operators_did(cli: CLI, place: Path, serials: list[str]) -> None:
    cli("ca", "revoke", place, serials[0], "--reason", "superseded")
    cli("ca", "secret", "rotate", place, "plant", "--overlap", "1h")
    cli("ca", "secret", "remove", place, "office")
    lines = [json.loads(line) for line in (place / "audit.log").read_text().splitlines()]
    assert [(line["action"], line.get("serials"), line.get("reference")) for line in lines] == [
        ("revoke", [serials[0]], None),
        ("secret rotate", None, "plant"),
        ("secret remove", None, "office"),
    ]
    assert all(line["operator"] for line in lines)


# -- secrets -------------------------------------------------------------------------------------------------------


def test_secrets_are_added_with_and_without_the_word(cli: CLI, place: Path) -> None:
    for words in (("ca", "secret", "add", place, "one"), ("ca", "secret", place, "two")):
        result = cli(*words)
        assert (result.code, len(result.out.strip())) == (0, 20)
    told = json.loads(cli("ca", "secret", "list", place, "--json").out)
    assert [each["reference"] for each in told] == ["office", "one", "plant", "two"]
    assert cli("ca", "secret", "remove", place, "one").code == 0
    assert cli("ca", "secret", "remove", place, "one").code == 7


def test_a_rotated_secret_is_shown_once_and_the_old_one_is_told_of(cli: CLI, place: Path) -> None:
    made = cli("ca", "secret", "rotate", place, "plant", "--overlap", "7d").out.strip()
    listed = cli("ca", "secret", "list", place)
    assert made not in listed.out + listed.err
    assert "the old one until" in listed.out
    responder = open_responder(place)
    for number, secret in enumerate(("secret", made)):
        mac_device(responder.handle, Clock(), "plant", secret).enroll(KEYS[number])
    responder.close()


def test_a_rotated_secret_may_go_to_a_file_of_its_owner(cli: CLI, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "secret"
    result = cli("ca", "secret", "rotate", place, "plant", "--out", out)
    assert (result.code, result.out) == (0, "")
    assert out.stat().st_mode & 0o777 == 0o600
    responder = open_responder(place)
    mac_device(responder.handle, Clock(), "plant", out.read_text().strip()).enroll(KEYS[0])
    responder.close()
    assert cli("ca", "secret", "rotate", place, "plant", "--out", out).code == 7
    assert cli("ca", "secret", "rotate", place, "nobody", "--out", tmp_path / "other").code != 0
    assert not (tmp_path / "other").exists()


def test_a_rotated_secret_may_be_given(cli: CLI, place: Path) -> None:
    result = cli("ca", "secret", "rotate", place, "plant", "--secret", "stdin", stdin=b"chosen\n")
    assert (result.code, result.out) == (0, "")
    assert "chosen" not in result.err
    assert cli("ca", "secret", "rotate", place, "plant", "--overlap", "long").code == 2


# -- the key, and the whole ----------------------------------------------------------------------------------------


def test_the_key_is_changed(cli: CLI, place: Path) -> None:
    told = json.loads(cli("ca", "rollover", place, "--key", "ec:P-384", "--json").out)
    assert (told["generation"], told["certificate"]) == (1, str(place / "generation-1" / "ca.pem"))
    assert "SIGHUP" in cli("ca", "rollover", place).err
    assert cli("ca", "rollover", place / "nothing").code == 7


def test_a_backup_is_made_and_restored(cli: CLI, place: Path, tmp_path: Path, serials: list[str]) -> None:
    file, again = tmp_path / "backup", tmp_path / "again"
    environment = {"PASSPHRASE": "a phrase"}
    assert cli("ca", "backup", place, file, "--passphrase", "env:PASSPHRASE", env=environment).code == 0
    assert cli("ca", "restore", file, again, "--passphrase", "env:PASSPHRASE", env=environment).code == 0
    assert found(cli, again) == serials
    assert cli("ca", "restore", file, again).code == 7
    assert cli("ca", "backup", place, file).code == 7


def test_a_passphrase_never_stands_on_the_command_line(cli: CLI, place: Path, tmp_path: Path) -> None:
    result = cli("ca", "backup", place, tmp_path / "backup", "--passphrase", "correct horse")
    assert result.code == 2
    assert not (tmp_path / "backup").exists()


def test_a_passphrase_is_asked_for(cli: CLI, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    result = cli("ca", "backup", place, file, "--passphrase", "prompt", stdin=b"a phrase\na phrase\n")
    assert result.code == 0
    told = json.loads(
        cli("ca", "restore", file, tmp_path / "a", "--passphrase", "stdin", "--json", stdin=b"a phrase\n").out
    )
    assert told["keys"]


def test_a_backup_without_keys_says_what_is_to_be_done(cli: CLI, place: Path, tmp_path: Path) -> None:
    assert "keep ca.key and vault.key elsewhere" in cli("ca", "backup", place, tmp_path / "backup").err
    assert "mode 0600" in cli("ca", "restore", tmp_path / "backup", tmp_path / "again").err


def test_a_database_in_postgresql_is_left_to_pg_dump(cli: CLI, place: Path, tmp_path: Path) -> None:
    (place / "opensslcmp.toml").write_text('[store]\nurl = "postgresql://ca@127.0.0.1:1/ca"\n')
    result = cli("ca", "backup", place, tmp_path / "backup")
    assert result.code == 0
    assert "pg_dump" in result.err
    result = cli("ca", "restore", tmp_path / "backup", tmp_path / "again")
    assert "pg_restore" in result.err
    assert not (tmp_path / "again" / "ca.db").exists()


def test_an_audit_log_that_cannot_be_written_is_warned_of(cli: CLI, place: Path) -> None:
    (place / "audit.log").mkdir()
    result = cli("ca", "secret", "remove", place, "plant")
    assert result.code == 0
    assert "audit log could not be written" in result.err
