"""A CA's directory in one file, taken while it is written to, and back."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, RevocationReason
from opensslcmp.server import CA, open_responder
from opensslcmp.server.backup import BackupError, make_backup, restore_backup
from opensslcmp.server.generations import roll_over
from tests.server.device import KEYS, crmf, mac_device, said
from tests.server.world import Clock

PASS = b"correct horse battery staple"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    ca = CA.create(tmp_path / "ca", "CN=Kept CA", crl_url="http://ca.example/crl")
    ca.add_secret("device", "secret")
    ca.close()
    return tmp_path / "ca"


def enroll(place: Path, subject: str = "CN=device") -> bytes:
    responder = open_responder(place)
    try:
        return mac_device(responder.handle, Clock(), "device", "secret").enroll(KEYS[0], subject)
    finally:
        responder.close()


def crl_number(ca: CA) -> int:
    crl = x509.load_der_x509_crl(ca.crl())
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_what_is_restored_goes_on_as_the_ca_did(place: Path, tmp_path: Path) -> None:
    kept, lost = enroll(place), enroll(place, "CN=lost")
    roll_over(place)
    CA.open(place).close()
    contents = make_backup(place, tmp_path / "backup", PASS)
    assert contents.keys
    assert contents.database
    assert {"ca.db", "ca.key", "vault.key", "generation-1/ca.key", "opensslcmp.toml"} < set(contents.files)
    ca = CA.open(place)
    ca.change_status(facts(lost).serial_number, RevocationReason.KEY_COMPROMISE)
    given_out = crl_number(ca)
    ca.close()
    assert restore_backup(tmp_path / "backup", tmp_path / "new", PASS) == contents
    again = CA.open(tmp_path / "new")
    found = again.find(facts(kept).serial_number)
    assert found is not None
    assert found.certificate == kept
    assert again.generation == 1
    assert crl_number(again) > given_out
    again.close()
    enroll(tmp_path / "new", "CN=after")
    assert (tmp_path / "new" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600


def test_a_backup_without_passphrase_has_no_key_in_it(place: Path, tmp_path: Path) -> None:
    contents = make_backup(place, tmp_path / "backup")
    assert not contents.keys
    content = (tmp_path / "backup").read_bytes()
    assert b"PRIVATE KEY" not in content
    assert (place / "vault.key").read_bytes().strip() not in content
    restore_backup(tmp_path / "backup", tmp_path / "new")
    with pytest.raises(FileNotFoundError):
        CA.open(tmp_path / "new")
    for name in ("ca.key", "vault.key"):
        (tmp_path / "new" / name).write_bytes((place / name).read_bytes())
        (tmp_path / "new" / name).chmod(0o600)
    enroll(tmp_path / "new")


def test_keys_are_sealed_in_a_backup_with_passphrase(place: Path, tmp_path: Path) -> None:
    make_backup(place, tmp_path / "backup", PASS)
    content = (tmp_path / "backup").read_bytes()
    assert b"PRIVATE KEY" not in content
    assert PASS not in content
    restore_backup(tmp_path / "backup", tmp_path / "without")
    assert not (tmp_path / "without" / "ca.key").exists()


def test_a_backup_is_of_one_moment_while_the_ca_goes_on(place: Path, tmp_path: Path) -> None:
    """Each transaction with a certificate is there with it, or not at all."""
    responder = open_responder(place)
    over = threading.Event()

    def work() -> None:
        device = mac_device(responder.handle, Clock(), "device", "secret")
        number = 0
        while not over.is_set():
            assert said(device.ask(BodyType.IR, crmf(KEYS[0], f"CN=device-{number}")))[0] is BodyType.IP
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(3):
            make_backup(place, tmp_path / f"backup-{number}")
    finally:
        over.set()
        thread.join()
        responder.close()
    for number in range(3):
        restore_backup(tmp_path / f"backup-{number}", tmp_path / f"new-{number}")
        with sqlite3.connect(tmp_path / f"new-{number}" / "ca.db") as database:
            certificates = {row[0] for row in database.execute("SELECT transaction_id FROM certificates")}
            transactions = {
                row[0] for row in database.execute("SELECT transaction_id FROM transactions WHERE certificates != '[]'")
            }
        database.close()
        assert certificates == transactions


def test_nothing_is_overwritten(place: Path, tmp_path: Path) -> None:
    make_backup(place, tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    with pytest.raises(FileExistsError):
        make_backup(place, tmp_path / "backup")
    with pytest.raises(FileExistsError):
        restore_backup(tmp_path / "backup", place)
    assert (tmp_path / "backup").read_bytes() == before
    (tmp_path / "empty").mkdir()
    restore_backup(tmp_path / "backup", tmp_path / "empty")
    assert (tmp_path / "empty" / "ca.pem").exists()


@pytest.mark.parametrize(("passphrase", "words"), [(b"wrong", "passphrase is wrong"), (None, None)])
def test_the_passphrase_must_be_right(place: Path, tmp_path: Path, passphrase: bytes | None, words: str | None) -> None:
    with pytest.raises(BackupError, match="empty"):
        make_backup(place, tmp_path / "backup", b"")
    make_backup(place, tmp_path / "backup", PASS if words else None)
    with pytest.raises(BackupError, match=words or "no keys in this backup"):
        restore_backup(tmp_path / "backup", tmp_path / "new", passphrase or PASS)
    assert not (tmp_path / "new").exists()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".new")] == []


def rewrite(file: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """The same archive with other members."""
    out = io.BytesIO()
    with tarfile.open(file) as old, tarfile.open(fileobj=out, mode="w") as new:
        for about in old:
            content = old.extractfile(about)
            assert content is not None
            changed = change(about.name, content.read())
            if changed is not None:
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])
                new.addfile(info, io.BytesIO(changed[1]))
    file.write_bytes(out.getvalue())


def in_manifest(**values: Any) -> Callable[[str, bytes], tuple[str, bytes]]:
    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if name == "manifest.json":
            content = json.dumps(json.loads(content) | values).encode()
        return name, content

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda name, content: (name, content[:-1] + b"?") if name == "ca.pem" else (name, content),
            "ca.pem is damaged",
        ),
        (lambda name, content: None if name == "ca.pem" else (name, content), "ca.pem is missing"),
        (lambda name, content: None if name == "manifest.json" else (name, content), "manifest.json is missing"),
        (lambda name, content: (name, b"[]") if name == "manifest.json" else (name, content), "cannot be read"),
        (in_manifest(format=2), "format 2"),
        (in_manifest(files={"../evil": "00"}), "no CA has"),
        (in_manifest(files={}), "altered"),
        (in_manifest(made_at=1), "altered"),
        (in_manifest(keys={"n": 1 << 30, "r": 8, "p": 1, "salt": "00", "names": []}), "unusual parameters"),
    ],
)
def test_a_backup_that_was_damaged_or_altered_is_refused(
    place: Path, tmp_path: Path, change: Callable[[str, bytes], Any], words: str
) -> None:
    make_backup(place, tmp_path / "backup", PASS)
    rewrite(tmp_path / "backup", change)
    with pytest.raises(BackupError, match=words):
        restore_backup(tmp_path / "backup", tmp_path / "new", PASS)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["backup", "ca"]


def test_a_database_that_is_damaged_is_noticed_before_and_after(place: Path, tmp_path: Path) -> None:
    enroll(place)
    make_backup(place, tmp_path / "backup")
    hashes: dict[str, str] = {}

    def spoil(name: str, content: bytes) -> tuple[str, bytes]:
        if name == "ca.db":
            content = content[:4096] + b"\xff" * 4096 + content[8192:]
            hashes[name] = hashlib.sha256(content).hexdigest()
        return name, content

    def tell(name: str, content: bytes) -> tuple[str, bytes]:
        if name == "manifest.json":
            manifest = json.loads(content)
            manifest["files"] |= hashes
            content = json.dumps(manifest).encode()
        return name, content

    rewrite(tmp_path / "backup", spoil)
    rewrite(tmp_path / "backup", tell)
    with pytest.raises(BackupError, match="the database is damaged"):
        restore_backup(tmp_path / "backup", tmp_path / "new")
    content = (place / "ca.db").read_bytes()
    (place / "ca.db").write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
    with pytest.raises((BackupError, sqlite3.DatabaseError)):
        make_backup(place, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_files_that_do_not_belong_together_are_refused(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    CA.create(other).close()
    for name, words in (("vault.key", "does not open with vault.key"), ("ca.key", "not the key of its ca.pem")):
        before = (place / name).read_bytes()
        (place / name).write_bytes((other / name).read_bytes())
        make_backup(place, tmp_path / f"backup-{name}", PASS)
        with pytest.raises(BackupError, match=words):
            restore_backup(tmp_path / f"backup-{name}", tmp_path / "new", PASS)
        (place / name).write_bytes(before)


def test_what_is_no_backup_or_no_ca_is_told(place: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BackupError, match="no backup"):
        restore_backup(tmp_path / "text", tmp_path / "new")
    with pytest.raises(FileNotFoundError, match="no CA"):
        make_backup(tmp_path, tmp_path / "backup")
