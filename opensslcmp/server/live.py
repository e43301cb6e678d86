"""A Responder that reads its settings again while it runs.

``reload`` makes another Responder from the files as they are now, over the same store, and puts it in the place of the
first in one step: a message that is under way ends as it began, the next one meets the new settings. What cannot be read
changes nothing: the old settings stay, and the log says what is wrong, by file, line and key.

``opensslcmp serve`` does so on SIGHUP, in each of its processes.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from opensslcmp.errors import CMPError
from opensslcmp.server.approval import Approval
from opensslcmp.server.ca import CA, open_responder
from opensslcmp.server.peer import Peer
from opensslcmp.server.responder import Responder
from opensslcmp.server.settings import Settings
from opensslcmp.server.store import Publication
from opensslcmp.server.tables import SettingsError, load_tables
from opensslcmp.server.throttle import Throttle

__all__ = ["LiveResponder", "Reloadable"]

logger = logging.getLogger("opensslcmp.server")

_TAKEN_OVER = frozenset(
    ("crl_url", "issuer_url", "authority", "authorisation", "rules", "limits", "profiles", "labels")
)
"""What ``reload`` brings into force; of anything else that changed, the log says that it needs a restart."""


class Reloadable(Protocol):
    """What ``opensslcmp serve`` tells of SIGHUP. Called in any thread, one call after the other."""

    def reload(self) -> bool:
        """Read again what stands in files. Does not raise: what cannot be read is logged, and changes nothing.

        Returns:
            whether what was read is in force now.
        """


class LiveResponder:
    """Answers CMP requests as a directory's settings say at the time. May be used by several threads at once.

    Args:
        directory: of the CA.
        config: file of settings; None: ``opensslcmp.toml`` of the directory, which may be missing.
        options: of ``open_responder``; they win over the file, also when it is read again.

    Raises:
        SettingsError: the file cannot be used.
        FileNotFoundError, OpenSSLError, ValueError: as ``open_responder``.
    """

    def __init__(self, directory: str | os.PathLike[str], *, config: Path | None = None, **options: Any) -> None:
        self._directory = Path(directory)
        self._config = config
        self._options = options
        self._lock = threading.Lock()
        self._was_there = self._file.exists()
        self.settings = self._read()
        self._throttle = Throttle(self.settings.limits.rate)
        options = {"throttle": self._throttle, **options}
        self.responder: Responder = open_responder(self._directory, settings=self.settings, **options)
        """The one of now."""

    @property
    def _file(self) -> Path:
        return self._config or self._directory / "opensslcmp.toml"

    def _read(self) -> Settings:
        # A file that was there and is gone means that somebody is at work on it, and not that everything is allowed.
        return load_tables(self._file, Settings) if self._config or self._was_there else Settings.load(self._file)

    @property
    def ca(self) -> CA:
        """The CA of now, which the Responder asks, or asks after a person."""
        authority = self.responder.authority
        found = authority.authority if isinstance(authority, Approval) else authority
        assert isinstance(found, CA)
        return found

    def handle(self, der: bytes, peer: Peer = Peer()) -> bytes:  # noqa: B008 -- immutable
        """As ``Responder.handle``."""
        return self.responder.handle(der, peer)

    def reload(self) -> bool:
        """As ``Reloadable``: settings, certificates, keys and what they name are read again."""
        with self._lock:
            try:
                settings = self._read()
                # What was counted goes on, or a reload would be what somebody who guesses waits for.
                same = settings.limits.rate == self.settings.limits.rate
                throttle = self._throttle if same else Throttle(settings.limits.rate)
                options = {"store": self.responder.store, "throttle": throttle, **self._options}
                responder = open_responder(self._directory, settings=settings, **options)
            except SettingsError as error:
                for problem in error.problems:
                    logger.error("the settings stay as they were: %s", problem)
                return False
            except (CMPError, OSError, ValueError) as error:
                logger.error("the settings stay as they were: %s: %s", self._file, error)
                return False
            except Exception:
                logger.exception("the settings stay as they were")
                return False
            before, self.settings, self.responder = self.settings, settings, responder
            self._throttle = throttle
            self._was_there = self._file.exists()
        for name in _needs_restart(before, settings):
            logger.warning("%s: %s changed, which takes effect after a restart", self._file, name)
        logger.info("%s: the settings were read again", self._file)
        return True

    def sweep(self) -> int:
        """As ``Responder.sweep``."""
        return self.responder.sweep()

    def current_crl(self) -> Publication:
        """As ``CA.current_crl``."""
        return self.ca.current_crl()

    def publish(self) -> None:
        """As ``CA.publish``."""
        self.ca.publish()

    def close(self) -> None:
        """Close the store."""
        self.responder.close()


def _needs_restart(before: Settings, after: Settings) -> list[str]:
    """Keys whose new values ``reload`` does not bring into force."""
    found = []
    for field in fields(Settings):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.name in _TAKEN_OVER or old == new:
            continue
        keys = [each.name for each in fields(new)] if is_dataclass(new) else []
        changed = [f"[{field.name}] {each}" for each in keys if getattr(old, each) != getattr(new, each)]
        found += changed or [field.name]
    if before.crl_path != after.crl_path:
        found.append("the path of crl_url")
    return found
