"""Feature levels of the linked OpenSSL. ``shim.h`` determines the level; here it gets its name."""

from opensslcmp._native import lib
from opensslcmp.errors import Unsupported

__all__ = ["LEVEL", "has", "require"]

LEVEL: str = "{}.{}".format(*divmod(lib.OPENSSLCMP_LEVEL, 10))
"""``"3.0"``, ``"3.2"``, ``"3.3"``, ``"3.4"`` or ``"3.5"`` (also for all that came later and added nothing)."""


def has(level: str) -> bool:
    """Whether the OpenSSL compiled against has what ``level`` brought."""
    return [int(part) for part in level.split(".")] <= [int(part) for part in LEVEL.split(".")]


def require(level: str, what: str) -> None:
    """Refuse what the linked OpenSSL lacks.

    Raises:
        Unsupported: ``what`` needs ``level``.
    """
    if not has(level):
        raise Unsupported(what, level)
