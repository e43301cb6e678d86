"""Which providers are active in a library."""

from typing import Any

from opensslcmp._native import ffi, lib

__all__ = ["provider_names"]


def provider_names(library: Any = ffi.NULL) -> tuple[str, ...]:
    """Names of the active providers; of the process's own library for NULL.

    Source: OSSL_PROVIDER_do_all(3).
    """
    out = ffi.new("char[4096]")
    lib.opensslcmp_library_providers(library, out, 4096)
    return tuple(ffi.string(out).decode().split())
