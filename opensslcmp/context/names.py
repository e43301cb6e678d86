"""Distinguished names as libcrypto makes them: each type of attribute in the string type that its standard says."""

from __future__ import annotations

from collections.abc import Iterable

from opensslcmp._native import ffi, lib
from opensslcmp._native.memory import encode, own
from opensslcmp._native.queue import check, clear

__all__ = ["is_object", "make_name", "object_identifier"]


def make_name(attributes: Iterable[tuple[str, str, bool]]) -> bytes:
    """DER of a Name.

    Args:
        attributes: for each its type (short name, long name or dotted number), its value, and whether it stands in one
            RDN with the one before.

    Raises:
        ValueError: OpenSSL knows no such type.
        OpenSSLError: the value does not fit the type.

    Source: X509_NAME_add_entry_by_txt(3).
    """
    made = own(lib.X509_NAME_new(), lib.X509_NAME_free)
    for kind, value, joined in attributes:
        object_identifier(kind)
        data = value.encode()
        check(lib.X509_NAME_add_entry_by_txt(made, kind.encode(), lib.MBSTRING_UTF8, data, len(data), -1, -joined))
    return encode(lib.i2d_X509_NAME, made)


def is_object(name: str) -> bool:
    """Whether OpenSSL knows an object by this name, or it is a dotted number."""
    try:
        return bool(object_identifier(name))
    except ValueError:
        return False


def object_identifier(name: str) -> str:
    """The dotted number of what OpenSSL knows by a short or a long name, or of a dotted number.

    Raises:
        ValueError: there is none.

    Source: OBJ_txt2obj(3).
    """
    found = lib.OBJ_txt2obj(name.encode(), 0)
    if not found:
        clear()
        raise ValueError(f"OpenSSL knows no object {name!r}")
    held = own(found, lib.ASN1_OBJECT_free)
    text = ffi.new("char[]", 256)
    length = lib.OBJ_obj2txt(text, len(text), held, 1)
    if not 0 < length < len(text):
        clear()
        raise ValueError(f"not an object identifier: {name!r}")
    return str(ffi.string(text).decode())
