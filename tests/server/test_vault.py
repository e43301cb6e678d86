"""The key file is safe, and what it seals opens for its reference only."""

import pickle
from pathlib import Path

import pytest

from opensslcmp.errors import OpenSSLError
from opensslcmp.server.vault import Vault


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "vault.key"
    Vault.create(path)
    return path


def test_a_secret_comes_back_under_its_reference(key_file: Path) -> None:
    sealed = Vault(key_file).encrypt(b"device-1", b"top secret")
    assert b"top secret" not in sealed
    assert Vault(key_file).decrypt(b"device-1", sealed) == b"top secret"


def test_the_same_secret_is_sealed_differently_each_time(key_file: Path) -> None:
    vault = Vault(key_file)
    assert vault.encrypt(b"r", b"secret") != vault.encrypt(b"r", b"secret")


def test_a_secret_does_not_open_under_another_reference(key_file: Path) -> None:
    vault = Vault(key_file)
    with pytest.raises(OpenSSLError, match="do not open"):
        vault.decrypt(b"device-2", vault.encrypt(b"device-1", b"top secret"))


@pytest.mark.parametrize("cut", [0, 1, 27, 28, 37])
def test_an_altered_or_cut_secret_does_not_open(key_file: Path, cut: int) -> None:
    vault = Vault(key_file)
    sealed = bytearray(vault.encrypt(b"r", b"top secret"))
    with pytest.raises(OpenSSLError):
        vault.decrypt(b"r", bytes(sealed[:cut]))
    sealed[cut] ^= 1
    with pytest.raises(OpenSSLError):
        vault.decrypt(b"r", bytes(sealed))


def test_a_secret_does_not_open_with_another_key(key_file: Path, tmp_path: Path) -> None:
    other = Vault.create(tmp_path / "other.key")
    with pytest.raises(OpenSSLError):
        other.decrypt(b"r", Vault(key_file).encrypt(b"r", b"secret"))


def test_the_key_file_is_its_owners_alone(key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o777 == 0o600


def test_no_temporary_file_stays(key_file: Path) -> None:
    assert [path.name for path in key_file.parent.iterdir()] == ["vault.key"]


def test_a_key_is_never_overwritten(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(FileExistsError):
        Vault.create(key_file)
    assert key_file.read_bytes() == before
    assert [path.name for path in key_file.parent.iterdir()] == ["vault.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666, 0o601])
def test_a_key_that_others_can_use_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(PermissionError, match="chmod 600"):
        Vault(key_file)


def test_a_link_to_a_key_is_refused(key_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.key"
    link.symlink_to(key_file)
    with pytest.raises(OSError, match=r"link\.key"):
        Vault(link)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=tmp_path.name):
        Vault(tmp_path)


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"00" * 33, b"xy" * 32, b"\xff" * 64])
def test_what_is_not_a_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vault.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a key file"):
        Vault(path)


def test_the_key_does_not_leave_by_repr_or_pickle(key_file: Path) -> None:
    vault = Vault(key_file)
    assert key_file.read_text().strip() not in repr(vault)
    with pytest.raises(TypeError):
        pickle.dumps(vault)
