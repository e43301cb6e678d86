"""pytest's plugin: the fixtures ``cmp_ca``, ``cmp_server`` and ``cmp_session``.

pytest loads it at every start wherever the package is installed, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from opensslcmp import Session
    from opensslcmp.testing import CA, Server

__all__ = ["cmp_ca", "cmp_server", "cmp_session"]


@pytest.fixture
def cmp_ca() -> Iterator[CA]:
    """A CMP certification authority in this process, new for each test, that ``misbehave`` makes go wrong."""
    from opensslcmp.testing import CA

    with CA() as ca:
        yield ca


@pytest.fixture
def cmp_server(cmp_ca: CA) -> Iterator[Server]:
    """``cmp_ca`` over HTTP at a free port of 127.0.0.1; ``cmp_server.url`` says where."""
    with cmp_ca.serve() as server:
        yield server


@pytest.fixture
def cmp_session(cmp_ca: CA) -> Session:
    """A client's session with ``cmp_ca``, with a shared secret and without a network."""
    return cmp_ca.session()
