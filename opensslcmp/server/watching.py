"""What watches a server that ``opensslcmp serve`` runs: its audit log and its metrics, as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from opensslcmp.server.audit import AuditLog
from opensslcmp.server.ca import CA
from opensslcmp.server.events import Event
from opensslcmp.server.http_service import Document
from opensslcmp.server.metrics import Metrics
from opensslcmp.server.settings import Settings

__all__ = ["Watch"]


class Watch:
    """The observers of one worker process. Made in that process, before its Responder; close it after that.

    Args:
        metrics_directory: where the workers of one server keep their numbers; None: there is one worker.

    Raises:
        OSError, ValueError: the audit log or the numbers cannot be written.
    """

    def __init__(self, settings: Settings, directory: Path, metrics_directory: Path | None = None) -> None:
        self._settings = settings.metrics
        self._metrics_directory = metrics_directory
        self.audit: AuditLog | None = settings.audit.open(directory)
        self.metrics: Metrics | None = None

    def begin(self, ca: CA) -> None:
        """Count from now on, when the settings say so; the CA tells of its CRL and its certificate."""
        if self._settings.enabled:
            audit = self.audit
            self.metrics = Metrics(
                directory=self._metrics_directory,
                store=ca.store,
                certificate=ca.certificate,
                crl=ca.crl_name,
                audit=None if audit is None else lambda: (audit.backlog, audit.dropped),
            )
            self.tick()

    def __call__(self, event: Event) -> None:
        """As ``Observer``."""
        if self.audit is not None:
            self.audit(event)
        if self.metrics is not None:
            self.metrics(event)

    def is_open(self) -> bool:
        """As ``AuditLog.is_open``."""
        return self.audit is None or self.audit.is_open()

    def documents(self) -> dict[str, Callable[[], Document]]:
        """What is to be had at the server's own address."""
        metrics = self.metrics
        if metrics is None or self._settings.host is not None:
            return {}
        return {self._settings.path: lambda: Document(content=metrics.text(), content_type=metrics.content_type)}

    def tick(self) -> None:
        """Listen for who asks for metrics at their own address, once no other worker does."""
        if self.metrics is not None and self._settings.host is not None:
            self.metrics.listen(self._settings.host, self._settings.port)

    def close(self) -> None:
        """Write what waits to be written."""
        if self.audit is not None:
            self.audit.close()
        if self.metrics is not None:
            self.metrics.close()
