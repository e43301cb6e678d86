"""A CA's directory in one file, taken while servers run on it, and back.

The file is a tar archive: ``manifest.json`` (SHA-256 of each file, how the keys are sealed), the files without a secret, the
database as it was at one moment (SQLite's backup API), and, when a passphrase is given, ``keys.sealed``: the private keys and
``vault.key``, under AES-256-GCM with a key that scrypt makes of the passphrase. What is sealed is bound to the manifest, so with
keys nothing in the archive can be exchanged; without them the hashes tell damage only.

A database that is restored is of the past: what was issued since is not known to it, and what was revoked since is not revoked.
The audit log tells what that was. Numbers of CRLs go on beyond those that were given out since (2^20 are left out).

A database in PostgreSQL is not in the file: that is pg_dump's to do.

Source: sqlite.org, "SQLite Backup API"; RFC 7914.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from opensslcmp._version import __version__
from opensslcmp.context.certificates import facts, load_certificates
from opensslcmp.context.cipher import KEY_BYTES, seal, unseal
from opensslcmp.context.keys import PrivateKey
from opensslcmp.errors import OpenSSLError
from opensslcmp.server.files import sync_directory, write_new
from opensslcmp.server.settings import Settings
from opensslcmp.server.vault import Vault

__all__ = ["BackupError", "Contents", "make_backup", "restore_backup"]

_FORMAT = 1
_PUBLIC = re.compile(r"(generation-\d{1,4}/)?(ca\.pem|root-update\.pem)|encryption\.pem|opensslcmp\.toml|ca\.db")
_SECRET = re.compile(r"(generation-\d{1,4}/)?ca\.key|vault\.key")
_LONGEST = 1 << 24
_GIVEN_OUT = 1 << 20
_SCRYPT = {"n": 1 << 16, "r": 8, "p": 1}


class BackupError(ValueError):
    """A backup cannot be made, or is not one, or is damaged, or the passphrase is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What a backup has.

    Attributes:
        files: names of the files, keys included.
        keys: whether the keys are among them.
        database: whether ``ca.db`` is; it is not when the database is in PostgreSQL.
        made_at: seconds since 1970.
    """

    files: tuple[str, ...]
    keys: bool
    database: bool
    made_at: float


def make_backup(
    directory: str | os.PathLike[str], file: str | os.PathLike[str], passphrase: bytes | None = None
) -> Contents:
    """Write a CA's directory to ``file`` (mode 0600), which is there whole or not at all.

    Args:
        passphrase: seals the keys; None leaves them out.

    Raises:
        FileExistsError: the file is there already.
        FileNotFoundError: there is no CA.
        BackupError: the copy of the database is damaged, as the database then is; the passphrase is empty.
        OSError: it cannot be written.
    """
    place, target = Path(directory), Path(file)
    if passphrase is not None and not passphrase:
        raise BackupError("the passphrase is empty")
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    settings = Settings.load(place / "opensslcmp.toml")
    found = sorted(
        str(each.relative_to(place)) for each in [*place.glob("*"), *place.glob("generation-*/*")] if each.is_file()
    )
    if "ca.pem" not in found:
        raise FileNotFoundError(f"there is no CA in {place}")
    public = {name: place / name for name in found if _PUBLIC.fullmatch(name) and name != "ca.db"}
    kept = {name: (place / name).read_bytes() for name in found if _SECRET.fullmatch(name)} if passphrase else {}
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".opensslcmp-") as scratch:
        database = _in_sqlite(settings)
        if database:
            public["ca.db"] = Path(scratch) / "ca.db"
            _copy_database(place / "ca.db", public["ca.db"])
        manifest: dict[str, Any] = {
            "format": _FORMAT,
            "version": __version__,
            "made_at": time.time(),
            "files": {name: _hash(path) for name, path in sorted(public.items())},
            "database": database,
        }
        if passphrase is not None:
            manifest["keys"] = _SCRYPT | {"salt": secrets.token_hex(16), "names": sorted(kept)}
        text = json.dumps(manifest, indent=1).encode()
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
                with tarfile.open(fileobj=out, mode="w") as archive:
                    _add(archive, "manifest.json", text)
                    if passphrase is not None:
                        sealed = seal(_key(passphrase, manifest["keys"]), _pack(kept), hashlib.sha256(text).digest())
                        _add(archive, "keys.sealed", sealed)
                    for name, path in sorted(public.items()):
                        archive.add(path, name, recursive=False, filter=_plain)
                out.flush()
                os.fsync(out.fileno())
            os.link(beside, target)  # unlike a rename it fails when the name is taken
        finally:
            beside.unlink(missing_ok=True)
    sync_directory(target.parent)
    return _contents(manifest)


def restore_backup(
    file: str | os.PathLike[str], directory: str | os.PathLike[str], passphrase: bytes | None = None
) -> Contents:
    """Make a CA's directory from a backup: checked, and there whole or not at all.

    Args:
        directory: is not there yet, or empty.
        passphrase: opens the keys; None leaves them out, and they must be put there before the CA is opened.

    Raises:
        FileExistsError: there is something in the directory.
        BackupError: the file is no backup or damaged, the passphrase is wrong, or there is none for it; a key is not its
            certificate's, or a secret does not open with ``vault.key``.
        OSError: it cannot be read, or the directory not written.
    """
    place = Path(directory)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise FileExistsError(f"{place} is not empty: nothing is overwritten")
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
    beside.mkdir(mode=0o700)
    try:
        with _archive(file) as archive:
            manifest = _unpack(archive, beside, passphrase)
        contents = _contents(manifest)
        _check(beside, contents, passphrase is not None)
        for home in (*beside.glob("generation-*"), beside):
            sync_directory(home)
        if place.exists():
            place.rmdir()
        beside.rename(place)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_directory(place.parent)
    return contents


def _in_sqlite(settings: Settings) -> bool:
    return settings.store.url is None


def _copy_database(source: Path, target: Path) -> None:
    """The database as it is at one moment; who writes to it meanwhile does not wait."""
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there")
    with (
        contextlib.closing(sqlite3.connect(source, timeout=10)) as there,
        contextlib.closing(sqlite3.connect(target)) as here,
    ):
        there.backup(here)
        here.execute("PRAGMA journal_mode=DELETE")
        _check_database(here)


def _check_database(connection: sqlite3.Connection) -> None:
    try:
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        raise BackupError(f"the database is damaged: {error}") from None
    if said != "ok":
        raise BackupError(f"the database is damaged: {said}")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(passphrase: bytes, how: dict[str, Any]) -> bytes:
    n, r, p = (int(how[name]) for name in ("n", "r", "p"))
    if not (0 < n <= 1 << 20 and 0 < r <= 32 and 0 < p <= 16):
        raise BackupError("unusual parameters of scrypt")
    return hashlib.scrypt(
        passphrase, salt=bytes.fromhex(how["salt"]), n=n, r=r, p=p, maxmem=256 * n * r + (1 << 20), dklen=KEY_BYTES
    )


def _pack(files: dict[str, bytes]) -> bytes:
    return json.dumps({name: content.hex() for name, content in files.items()}).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    about = _plain(tarfile.TarInfo(name))
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def _plain(about: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nothing about users of this machine."""
    about.uid = about.gid = 0
    about.uname = about.gname = ""
    about.mode = 0o600
    about.mtime = int(time.time())
    return about


def _contents(manifest: dict[str, Any]) -> Contents:
    names = [*manifest["files"], *manifest.get("keys", {}).get("names", ())]
    return Contents(
        files=tuple(sorted(names)),
        keys="keys" in manifest,
        database=bool(manifest["database"]),
        made_at=float(manifest["made_at"]),
    )


@contextlib.contextmanager
def _archive(file: str | os.PathLike[str]) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, mode="r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{file} is no backup, or it is damaged: {error}") from None


def _member(archive: tarfile.TarFile, name: str) -> tuple[IO[bytes], int]:
    try:
        about = archive.getmember(name)
    except KeyError:
        raise BackupError(f"{name} is missing in the backup") from None
    content = archive.extractfile(about)
    if content is None:
        raise BackupError(f"{name} is no file in the backup")
    return content, about.size


def _small(archive: tarfile.TarFile, name: str) -> bytes:
    content, size = _member(archive, name)
    if size > _LONGEST:
        raise BackupError(f"{name} is too long")
    return content.read()


def _unpack(archive: tarfile.TarFile, place: Path, passphrase: bytes | None) -> dict[str, Any]:
    text = _small(archive, "manifest.json")
    try:
        manifest: dict[str, Any] = json.loads(text)
        number, files, how = manifest["format"], dict(manifest["files"]), manifest.get("keys")
        _contents(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError("the manifest of the backup cannot be read") from error
    if number != _FORMAT:
        raise BackupError(f"the backup is of format {number}, this version of opensslcmp knows {_FORMAT}")
    if how is None and passphrase is not None:
        raise BackupError("there are no keys in this backup, so there is nothing for a passphrase to open")
    for name, expected in files.items():
        if not _PUBLIC.fullmatch(name):
            raise BackupError("the backup has a file that no CA has")
        target = place / name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        content, _ = _member(archive, name)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _mode(name)), "wb") as out:
            shutil.copyfileobj(content, out)
            out.flush()
            os.fsync(out.fileno())
        if _hash(target) != expected:
            raise BackupError(f"{name} is damaged in the backup")
    if how is not None and passphrase is not None:
        try:
            opened = unseal(_key(passphrase, how), _small(archive, "keys.sealed"), hashlib.sha256(text).digest())
        except (OpenSSLError, KeyError, TypeError):
            raise BackupError("the keys do not open: the passphrase is wrong, or the backup was altered") from None
        for name, content_hex in json.loads(opened).items():
            if _SECRET.fullmatch(name):
                (place / name).parent.mkdir(mode=0o700, exist_ok=True)
                write_new(place / name, bytes.fromhex(content_hex))
    return manifest


def _mode(name: str) -> int:
    return 0o600 if name == "ca.db" else 0o644


def _check(place: Path, contents: Contents, with_keys: bool) -> None:
    """The files belong together."""
    if "ca.pem" not in contents.files:
        raise BackupError("ca.pem is missing in the backup")
    if with_keys:
        for path in (place / name for name in contents.files if name.endswith("ca.key")):
            if b"ENCRYPTED" in path.read_bytes():
                continue  # under a password of its own
            if PrivateKey.load(path).public_key_der != facts(load_certificates(path.with_name("ca.pem"))[0]).spki:
                raise BackupError(f"{path.relative_to(place)} is not the key of its ca.pem")
    if not contents.database:
        return
    with contextlib.closing(sqlite3.connect(place / "ca.db")) as connection:
        _check_database(connection)
        if with_keys and (place / "vault.key").exists():
            vault = Vault(place / "vault.key")
            for reference, sealed in connection.execute("SELECT reference, sealed FROM secrets"):
                try:
                    vault.decrypt(reference, sealed)
                except OpenSSLError:
                    raise BackupError("a secret in the database does not open with vault.key") from None
        # CRLs given out since the backup had greater numbers than the database knows.
        connection.execute("UPDATE publications SET number = number + ?, revision = -1", (_GIVEN_OUT,))
        names = ["crl", *(f"crl-{number}" for number in range(1, 1 + len(list(place.glob("generation-*")))))]
        connection.executemany(
            "INSERT OR IGNORE INTO publications VALUES (?, ?, -1, 0, 0, x'')", [(name, _GIVEN_OUT) for name in names]
        )
        connection.commit()
