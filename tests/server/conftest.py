"""Parties of the server's tests: a clock that stands still, a CA in memory, a Responder, a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey
from opensslcmp.server import CA, MemoryStore, Responder
from opensslcmp.server.sqlstore import SQLStore
from opensslcmp.server.store import Store
from tests.postgres import Server
from tests.server.device import Device
from tests.server.world import Clock, Plain, World


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, which does not wait for the disk."""
    server = Server()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, PrivateKey]:
    """Certificate and key of a CA."""
    directory = tmp_path_factory.mktemp("root") / "ca"
    ca = CA.create(directory, "CN=Test CA")
    ca.close()
    return ca.certificate, PrivateKey.load(directory / "ca.key")


@pytest.fixture(params=["memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store; tests that want SQLite say so by ``indirect`` parametrization."""
    made: Store = MemoryStore() if request.param == "memory" else SQLStore(tmp_path / "ca.db")
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def make(root: tuple[bytes, PrivateKey], store: Store, clock: Clock) -> Callable[..., World]:
    """Makes a world, with options for CA (``ca_...``) and Responder."""

    def made(**options: Any) -> World:
        for_ca = {name[3:]: options.pop(name) for name in list(options) if name.startswith("ca_")}
        ca = CA(root[0], root[1], store, Plain(), clock=clock, **for_ca)
        trust = options.pop("trust", None) or Trust([root[0]])
        responder = Responder(ca, store, ca.signer, secrets=ca.secrets.find, trust=trust, clock=clock, **options)
        return World(ca, store, clock, responder)

    return made


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    """A CA and its Responder with default options."""
    return make()


@pytest.fixture
def device(world: World) -> Device:
    """A device with a shared secret."""
    return world.device()
