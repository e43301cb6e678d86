"""The error queue of the calling thread (ERR_get_error_all(3)).

It is shared with whoever else uses the same libcrypto on this thread, the standard library's ``ssl`` among them. So it
is empty before each of our calls and empty after it, on success too.
"""

from typing import TypeVar

from opensslcmp._native import ffi, lib
from opensslcmp.errors import OpenSSLError

__all__ = ["check", "clear", "drain"]

T = TypeVar("T")


def clear() -> None:
    """Empty the queue of this thread."""
    lib.ERR_clear_error()


def drain() -> list[str]:
    """Empty the queue of this thread and return what it held, oldest first, each as ``library: reason (data)``."""
    entries = []
    data = ffi.new("const char **")
    flags = ffi.new("int *")
    while code := lib.ERR_get_error_all(ffi.NULL, ffi.NULL, ffi.NULL, data, flags):
        library = lib.ERR_lib_error_string(code)
        reason = lib.ERR_reason_error_string(code)
        text = f"{_text(library) or 'OpenSSL'}: {_text(reason) or f'error {code:#x}'}"
        if detail := _text(data[0]):
            text += f" ({detail})"
        entries.append(text)
    return entries


def check(result: T) -> T:
    """Return a true ``result``, else raise what the error queue says.

    Raises:
        OpenSSLError: ``result`` is 0 or NULL.
    """
    if not result:
        raise OpenSSLError(drain())
    return result


def _text(pointer: object) -> str:
    return ffi.string(pointer).decode("utf-8", "replace") if pointer else ""
