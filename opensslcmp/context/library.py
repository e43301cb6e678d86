"""Where algorithms come from: an ``OSSL_LIB_CTX`` with its providers, and a property query.

Without one, everything is fetched from the process's own library, as ``openssl.cnf`` sets it up. What a ``Library`` fetched
and decoded is kept in it alone, so keys of one never meet another.

Source: OSSL_LIB_CTX(3), OSSL_PROVIDER(3), property(7), provider(7).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from opensslcmp._native import ffi, lib
from opensslcmp._native.memory import own
from opensslcmp._native.providers import provider_names
from opensslcmp._native.queue import check, drain
from opensslcmp.errors import OpenSSLError

__all__ = ["Library", "Providers", "active_providers", "digest", "native"]

Providers: TypeAlias = "Iterable[str] | Mapping[str, Mapping[str, str]]"
"""Names of providers, or names with the settings that each takes (``{"pkcs11": {"pkcs11-module-path": ...}}``)."""

_numbers = itertools.count(1)

# By their settings: OpenSSL has room for some hundreds in a process, and gives none back safely.
_contexts: dict[bytes, Any] = {}
_lock = threading.Lock()


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 -- one for the process
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)


class Library:
    """A source of algorithms. Immutable; may be used by several threads at once.

    With ``providers``, ``config`` or ``private=True`` it is an ``OSSL_LIB_CTX`` of its own, which nothing else in the process
    sees. Else it is the process's own library, narrowed by ``properties``.
    Libraries with the same settings share one ``OSSL_LIB_CTX``, which stays until the process ends: every thread that used one
    must have ended before it is freed (OPENSSL_thread_stop_ex(3)), which nobody can know when a Python object goes.

    Args:
        providers: to load, such as ``("default", "pkcs11")``. A private library without any has OpenSSL's default provider.
        provider_path: directory of provider modules.
        config: path of an ``openssl.cnf``; excludes ``providers``.
        properties: query that every algorithm must satisfy, such as ``fips=yes`` or ``provider=default``; one that begins
            with ``?`` is a preference (property(7)).
        private: an ``OSSL_LIB_CTX`` of its own.

    Raises:
        ValueError: arguments that contradict each other, or a name or setting that cannot stand in a configuration.
        OpenSSLError: a provider does not load; SHA-256 or HMAC is not found. The text says which.
        FileNotFoundError: there is no such configuration.

    Source: OSSL_LIB_CTX_new(3), OSSL_LIB_CTX_load_config(3), property(7).

    >>> Library(providers=["default"], properties="provider=default")
    <Library private, providers default, properties 'provider=default'>
    """

    __slots__ = ("_ptr", "number", "private", "properties")

    number: int
    """Tells this one from all others of the process."""
    private: bool
    """Whether it has an ``OSSL_LIB_CTX`` of its own."""
    properties: str | None
    """The property query."""

    def __init__(
        self,
        *,
        providers: Providers = (),
        provider_path: str | os.PathLike[str] | None = None,
        config: str | os.PathLike[str] | None = None,
        properties: str | None = None,
        private: bool | None = None,
    ) -> None:
        if isinstance(providers, str):
            raise TypeError("providers are several names: ('default', 'pkcs11')")
        settings = providers if isinstance(providers, Mapping) else {name: {} for name in providers}
        if settings and config is not None:
            raise ValueError("either providers, or a config that names them")
        if private is False and (settings or config is not None or provider_path is not None):
            raise ValueError("providers, provider_path and config are for a private library")
        self.private = bool(settings or config is not None or provider_path is not None or private)
        self.properties = properties
        self.number = next(_numbers)
        self._ptr = self._load(settings, provider_path, config)
        for name in settings:
            if lib.opensslcmp_library_has(self._ptr, name.encode()) != 1:
                raise OpenSSLError(drain(), f"the provider {name} does not load")
        if lib.opensslcmp_library_works(self._ptr) != 1:
            asked = "" if properties is None else f" with the properties {properties!r}"
            raise OpenSSLError(drain(), f"the library lacks SHA256 or HMAC{asked}")

    def _load(
        self,
        settings: Mapping[str, Mapping[str, str]],
        path: str | os.PathLike[str] | None,
        config: str | os.PathLike[str] | None,
    ) -> Any:
        text = _configuration(settings) if settings else None
        if config is not None:
            with open(config, "rb") as file:
                content = file.read()
        else:
            content = b"" if text is None else text.encode()
        where = b"" if path is None else os.fsencode(path)
        # Hashed, since settings may hold a PIN.
        key = (
            hashlib.sha256(b"%d %d " % (config is None, len(where)) + where + content).digest()
            if self.private
            else None
        )
        with _lock:
            return self._open(key, text, path, config, ", ".join(settings) if settings else "the configuration")

    def _open(
        self,
        key: bytes | None,
        text: str | None,
        path: str | os.PathLike[str] | None,
        config: str | os.PathLike[str] | None,
        what: str,
    ) -> Any:
        shared = ffi.NULL if key is None else _contexts.get(key, ffi.NULL)
        written = None
        try:
            if text is not None and not shared:
                # 0600, and gone as soon as OpenSSL has read it.
                descriptor, written = tempfile.mkstemp(suffix=".cnf")
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
            file_name = written or config
            pointer = lib.opensslcmp_library_new(
                shared,
                self.private,
                ffi.NULL if path is None else os.fsencode(path),
                ffi.NULL if file_name is None else os.fsencode(file_name),
                ffi.NULL if self.properties is None else self.properties.encode(),
            )
        finally:
            if written is not None:
                os.unlink(written)
        if not pointer:
            queue = [entry for entry in drain() if "pin" not in entry.lower()]
            raise OpenSSLError(queue, f"OpenSSL does not load {what}")
        if key is not None:
            _contexts[key] = lib.opensslcmp_library_context(pointer)
        return own(pointer, lib.opensslcmp_library_free)

    def random(self, length: int) -> bytes:
        """Random bytes from this library's generator.

        Raises:
            OpenSSLError: it has none.

        Source: RAND_bytes_ex(3).
        """
        out = ffi.new("unsigned char[]", length)
        check(lib.opensslcmp_library_random(self._ptr, out, length))
        return bytes(ffi.buffer(out, length))

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the active providers."""
        return provider_names(self._ptr)

    def __repr__(self) -> str:
        kind = "private" if self.private else "of the process"
        asked = "" if self.properties is None else f", properties {self.properties!r}"
        return f"<Library {kind}, providers {' '.join(self.providers)}{asked}>"

    def __reduce__(self) -> Any:
        raise TypeError("a library does not leave the process")


def active_providers() -> tuple[str, ...]:
    """Names of the active providers of the process's own library.

    Source: OSSL_PROVIDER_do_all(3).
    """
    return provider_names()


def native(library: Library | None) -> Any:
    """What C takes for ``library``; NULL stands for the process's own."""
    return ffi.NULL if library is None else library._ptr


def digest(name: str, data: bytes, library: Library | None = None) -> bytes:
    """A digest of ``data``.

    Args:
        name: as OpenSSL names it, ``SHA256`` or ``SHA3-256``.

    Raises:
        OpenSSLError: the library has none of this name.

    Source: EVP_Digest(3).
    """
    out = ffi.new("unsigned char[64]")
    length = ffi.new("unsigned int *")
    check(lib.opensslcmp_digest(native(library), name.encode(), data, len(data), out, length))
    return bytes(ffi.buffer(out, length[0]))


# A token's module is one for the process: when one library goes, the others still need it (provider-pkcs11(7)).
_DEFAULTS = {"pkcs11": {"pkcs11-module-quirks": "no-deinit"}}


def _configuration(settings: Mapping[str, Mapping[str, str]]) -> str:
    lines = ["openssl_conf = opensslcmp", "[opensslcmp]", "providers = opensslcmp_providers", "[opensslcmp_providers]"]
    lines += [f"{_word(name)} = opensslcmp_{number}" for number, name in enumerate(settings)]
    for number, (name, given) in enumerate(settings.items()):
        values = _DEFAULTS.get(name, {}) | dict(given)
        lines += [f"[opensslcmp_{number}]", *(f"{_word(key)} = {_value(value)}" for key, value in values.items())]
        # Last: by then the provider finds its settings.
        lines.append("activate = 1")
    return "\n".join((*lines, ""))


def _word(text: str) -> str:
    if not text or not all(letter.isalnum() or letter in "-_" for letter in text):
        raise ValueError(f"not a name for a configuration: {text!r}")
    return text


def _value(text: str) -> str:
    if "\n" in text or "\r" in text or '"' in text:
        raise ValueError("a setting of a provider cannot hold quotes or line ends")
    return '"' + text.replace("\\", "\\\\").replace("$", "\\$") + '"'
