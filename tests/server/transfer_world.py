"""What the tests of all transfers have: a CA that decides at once or the second time, and whole enrollments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opensslcmp import Context, Issued, Session, SharedSecret
from opensslcmp.client.failover import Retry
from opensslcmp.server.app import App
from opensslcmp.server.authority import CertificateRequest, Pending
from opensslcmp.server.authority import Issued as Granted
from opensslcmp.server.events import Event
from tests.client.client_peers import TWINS, blocking
from tests.server.world import World, fresh_world

__all__ = ["SECRET", "TWINS", "Hesitant", "Site", "blocking"]

SECRET = SharedSecret("device", "secret")


class Hesitant:
    """An authority that thinks about names with "wait" in them until it is asked again."""

    def __init__(self, authority: Any) -> None:
        self._authority = authority

    def __getattr__(self, name: str) -> Any:
        return getattr(self._authority, name)

    def issue(self, request: CertificateRequest) -> Granted | Pending:
        if request.pending is None and b"wait" in (request.subject or b""):
            return Pending(check_after_seconds=1, reference=b"ticket")
        granted: Granted | Pending = self._authority.issue(request)
        return granted


class Site:
    """A CA and an application; ``events`` tells what messages came to."""

    def __init__(self) -> None:
        self.world: World = fresh_world()
        self.world.ca.add_secret("device", "secret")
        self.events: list[Event] = []
        self.responder = self.world.again(Hesitant(self.world.ca), observe=self.events.append)

    def app(self, _gate: object = None) -> App:
        return App(self.responder, threads=0, read_timeout_seconds=0.5)

    @property
    def certificates(self) -> int:
        """How many there are."""
        return sum(1 for _ in self.world.ca.store.every_certificate())

    def enroll_twice(
        self, twin: Callable[..., Session], url: str | None = None, transport: Any = None, **options: Any
    ) -> tuple[Issued, Issued]:
        """With explicit confirmation, at once and by polling."""
        context = Context(url, credential=SECRET, retry=Retry(attempts=1), message_timeout_seconds=20, **options)
        session = twin(context, transport, sleep=no_sleep if twin is Session else no_sleep_async)
        before = self.certificates
        first = session.enroll("CN=at-once", generate="ec:P-256")
        second = session.enroll("CN=wait", generate="ec:P-256")
        assert self.certificates == before + 2
        kinds = [each.body_type.name for each in self.events if each.body_type is not None]
        assert kinds[-5:] == ["IR", "CERT_CONF", "IR", "POLL_REQ", "CERT_CONF"]
        return first, second


def no_sleep(_seconds: float) -> None:
    """Does not wait."""


async def no_sleep_async(_seconds: float) -> None:
    """Does not wait."""
