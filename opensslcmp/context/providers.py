"""Providers and random seeds of the process, as the options of openssl(1) set them up."""

from __future__ import annotations

import os

from opensslcmp._native import ffi, lib
from opensslcmp._native.queue import clear, drain
from opensslcmp.errors import OpenSSLError

__all__ = ["load_provider", "seed_from", "set_provider_path", "write_seed"]


def set_provider_path(path: str) -> None:
    """Look for providers in this directory, for the whole process.

    Raises:
        OpenSSLError: out of memory.

    Source: OSSL_PROVIDER_set_default_search_path(3).
    """
    _check(lib.OSSL_PROVIDER_set_default_search_path(ffi.NULL, os.fsencode(path)), f"provider path {path}")


def load_provider(name: str) -> None:
    """Load a provider into the process, for good. The default provider is then loaded only by its own name.

    Raises:
        OpenSSLError: there is none, or it does not start.

    Source: OSSL_PROVIDER_load(3).
    """
    _check(bool(lib.OSSL_PROVIDER_load(ffi.NULL, name.encode())), f"provider {name}")


def seed_from(path: str) -> None:
    """Mix a file into the random generator.

    Raises:
        OpenSSLError: it cannot be read.

    Source: RAND_load_file(3).
    """
    _check(lib.RAND_load_file(os.fsencode(path), -1) > 0, f"random seed {path}")


def write_seed(path: str) -> None:
    """Write random bytes for ``seed_from``.

    Raises:
        OpenSSLError: it cannot be written.

    Source: RAND_write_file(3).
    """
    _check(lib.RAND_write_file(os.fsencode(path)) > 0, f"random seed {path}")


def _check(done: int | bool, what: str) -> None:
    if not done:
        raise OpenSSLError(drain(), f"{what} cannot be used")
    clear()
