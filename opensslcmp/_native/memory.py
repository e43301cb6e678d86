"""Whose memory it is: the only place where ``ffi.gc`` is written."""

from typing import Any

from opensslcmp._native import ffi, lib
from opensslcmp._native.queue import check
from opensslcmp.errors import OpenSSLError

__all__ = ["decode", "encode", "give", "own"]


def own(pointer: Any, free: Any) -> Any:
    """Take over a pointer that we must free.

    Raises:
        OpenSSLError: the pointer is NULL.
    """
    return ffi.gc(check(pointer), free)


def give(pointer: Any) -> Any:
    """Hand an owned pointer to C, which frees it from now on."""
    ffi.gc(pointer, None)
    return pointer


def decode(d2i: Any, free: Any, der: bytes) -> Any:
    """Decode exactly ``der`` into an owned pointer.

    Raises:
        OpenSSLError: it does not decode, or bytes are left over.
    """
    buffer = ffi.from_buffer(der)
    cursor = ffi.new("const unsigned char **", buffer)
    pointer = own(d2i(ffi.NULL, cursor, len(der)), free)
    if cursor[0] != buffer + len(der):
        raise OpenSSLError((), "bytes follow the DER value")
    return pointer


def encode(i2d: Any, pointer: Any) -> bytes:
    """DER of what ``pointer`` points at.

    Raises:
        OpenSSLError: it does not encode.
    """
    out = ffi.new("unsigned char **")
    length = i2d(pointer, out)
    check(length > 0)
    try:
        return bytes(ffi.buffer(out[0], length))
    finally:
        lib.opensslcmp_free(out[0])
