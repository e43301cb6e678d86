"""Secrets at rest: sealed under a key that is not in the database.

The database alone gives no secret away. The key is in a file of its own, of mode 0600, in hexadecimal. A sealed secret
opens only under the reference that it was sealed for, so rows of the database cannot be swapped.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from opensslcmp.context.cipher import KEY_BYTES, seal, unseal
from opensslcmp.server.files import check_private

__all__ = ["Vault"]


class Vault:
    """Seals secrets and opens them again. May be used by several threads at once.

    Args:
        key_file: made by ``create``. It is read here, once.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: others than the owner may read or write the file, or it belongs to somebody else.
        ValueError: it is not a key file.
    """

    __slots__ = ("_key",)

    def __init__(self, key_file: str | os.PathLike[str]) -> None:
        path = Path(key_file)
        with open(path, "rb", opener=_no_follow) as file:
            check_private(path, os.fstat(file.fileno()))
            text = file.read(2 * KEY_BYTES + 2)
        try:
            self._key = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            self._key = b""
        if len(self._key) != KEY_BYTES:
            raise ValueError(f"{path} is not a key file: it must hold {2 * KEY_BYTES} hexadecimal digits")

    @classmethod
    def create(cls, key_file: str | os.PathLike[str]) -> Vault:
        """A vault under a new random key, written to ``key_file``, which is there whole or not at all.

        Raises:
            FileExistsError: the file is there already; a key is never overwritten, as what it sealed would be lost.
        """
        path = Path(key_file)
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES).hex().encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(new, path)  # unlike a rename it fails when the name is taken
        finally:
            new.unlink()
        _sync_directory(path.parent)
        return cls(path)

    def encrypt(self, reference: bytes, secret: bytes) -> bytes:
        """``secret`` sealed for ``reference``: AES-256-GCM, a random nonce first, 28 bytes longer than the secret."""
        return seal(self._key, secret, reference)

    def decrypt(self, reference: bytes, sealed: bytes) -> bytes:
        """The secret that was sealed for ``reference``.

        Raises:
            OpenSSLError: it was sealed under another key or for another reference, or it was altered.
        """
        return unseal(self._key, sealed, reference)

    def __repr__(self) -> str:
        return "<Vault>"

    def __reduce__(self) -> str:
        raise TypeError("a vault holds a key and is not to be pickled; open its key file again")


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
