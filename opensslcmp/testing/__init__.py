"""A certification authority for tests: in this process, there in milliseconds, and wrong when it is told to be.

>>> from opensslcmp.testing import CA
>>> with CA() as ca:
...     issued = ca.session().enroll("CN=device", generate="ec:P-256")
>>> issued.certificate.issuer == ca.certificate.subject
True

With pytest there are fixtures: ``cmp_ca``, ``cmp_server``, ``cmp_session`` (``plugin``). ``docs/testing-your-service.md`` shows
what can go wrong on demand. Names are imported when they are first used, since pytest loads the plugin of every package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opensslcmp.testing.ca import CA, Exchange, Misbehaviour
    from opensslcmp.testing.faults import (
        Corrupt,
        Delay,
        Drop,
        ErrorMessage,
        Fault,
        Garbage,
        HTTPStatus,
        Impostor,
        Misissue,
        Reject,
        Reply,
        Truncate,
        Unprotected,
        Wait,
    )
    from opensslcmp.testing.web import Server

__all__ = [
    "CA",
    "Corrupt",
    "Delay",
    "Drop",
    "ErrorMessage",
    "Exchange",
    "Fault",
    "Garbage",
    "HTTPStatus",
    "Impostor",
    "Misbehaviour",
    "Misissue",
    "Reject",
    "Reply",
    "Server",
    "Truncate",
    "Unprotected",
    "Wait",
]

_HOMES = {"CA": "ca", "Exchange": "ca", "Misbehaviour": "ca", "Server": "web"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'faults')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
