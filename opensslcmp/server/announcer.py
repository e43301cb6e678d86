"""What a CA announces by itself: a new key, revocations, CRLs, certificates; to receivers, until each has acknowledged it.

``Announcer.tick`` looks at the CA and its store for what is new since it last looked, so it needs nobody to tell it: what an
operator revokes by a command, what another worker issues and what happened while no server ran is found all the same, and
messages to the server cost nothing for it. Two things lie in a directory:

``state.json``  what was announced already; what is older than this file is never announced
``N.json``      a notice that some receivers have not acknowledged yet: body, and when to try next, by receiver

A notice is on the disk before ``state.json`` says that it was announced, so who is killed announces twice rather than never.
It becomes a message when it is sent: with the time of then, under the transactionID that it had before. One process at a
time works on the directory (flock(2)); several machines over one store would each announce, so give [announce] to one.

A receiver that does not answer, or says 5xx, 408 or 429, is tried again after a time that doubles; what it refuses otherwise
is dropped and logged. Notices reach a receiver in their order, as long as it takes them.

Source: RFC 9810, 5.3.13 to 5.3.16; RFC 9811, 3.5.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opensslcmp.client.announcements import Notice, announce, announcement_message
from opensslcmp.context.protection import Protector, fresh_bytes
from opensslcmp.enums import BodyType
from opensslcmp.errors import CMPError, Rejected, TransportError
from opensslcmp.server.announce_settings import AnnounceSettings
from opensslcmp.server.ca import CA
from opensslcmp.server.files import replace_file, sync_directory
from opensslcmp.server.store import CertificateSearch, CertificateState
from opensslcmp.transport import TLS, transport_for

__all__ = ["Announcer", "notices_of"]

logger = logging.getLogger("opensslcmp.server")

_OVERLAP_SECONDS = 900.0  # a commit may come later than others that say to be younger
_MOST_WAIT_SECONDS = 3600.0
_AGAIN = frozenset((408, 425, 429))


def notices_of(ca: CA, kind: str) -> Iterator[Notice]:
    """What a CA may announce of now: its last key update, or its CRLs.

    Raises:
        OpenSSLError: the key does not sign.
    """
    if kind == "ckuann":
        for update in ca.knowledge.root_updates[:1]:
            yield Notice.ca_key_update(update.new_with_new, update.new_with_old, update.old_with_new)
    elif kind == "crlann":
        yield Notice.crls([ca.current_crl(each).content for each in sorted(set(ca.crl_paths().values()))])


class Announcer:
    """Announces for one CA. ``tick`` may be called by any thread of any process.

    Args:
        directory: where it keeps what it has to; made when it is not there.
        settings: who is told of what.
        ca, protector: give the CA, and who signs for it, of the time.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        directory: Path,
        settings: AnnounceSettings,
        ca: Callable[[], CA],
        protector: Callable[[], Protector],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._ca = ca
        self._protector = protector
        self._clock = clock
        self._transports: dict[str, Any] = {}
        self._busy = threading.Lock()

    def start(self) -> None:
        """``tick`` in a thread, unless one is under way: receivers may be slow."""
        if self._settings.receivers and not self._busy.locked():
            threading.Thread(target=self._tick_and_log, name="cmp-announce", daemon=True).start()

    def _tick_and_log(self) -> None:
        try:
            self.tick()
        except Exception:
            logger.exception("nothing could be announced")

    def tick(self) -> None:
        """Write down what is new, and send what is due.

        Raises:
            OSError: the directory cannot be used.
            OpenSSLError: the key does not sign.
        """
        if not self._busy.acquire(blocking=False):
            return
        try:
            with self._claimed() as ours:
                if ours:
                    self._look()
                    self._send()
        finally:
            self._busy.release()

    def close(self) -> None:
        """Wait for what is under way, and close connections."""
        with self._busy:
            for each in self._transports.values():
                each.close()

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[bool]:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    # -- what is new -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        path, ca, now = self._directory / "state.json", self._ca(), self._clock()
        state: dict[str, Any] | None = json.loads(path.read_bytes()) if path.exists() else None
        seen = state or {}
        crls = {str(each): ca.current_crl(each).number for each in set(ca.crl_paths().values())}
        found: list[Notice] = []
        after: dict[str, Any] = {"since": seen.get("since", now), "generation": ca.generation, "crls": crls}
        kinds = self._settings.kinds
        if state is not None:
            if "ckuann" in kinds and ca.generation > seen["generation"]:
                found += notices_of(ca, "ckuann")
            revoked = self._revoked(ca, seen, now) if "rann" in kinds and crls != seen["crls"] else None
            if "crlann" in kinds and crls != seen["crls"]:
                found += notices_of(ca, "crlann")
        else:
            revoked = None
        revocations, after["revoked"] = revoked or ([], seen.get("revoked", []))
        found += revocations
        issued, after["issued"] = (
            self._issued(ca, seen, now) if state is not None and "cann" in kinds else ([], seen.get("issued", []))
        )
        found += issued
        for notice in found:
            self._keep(notice, now)
        if after != state:
            replace_file(path, json.dumps(after).encode(), 0o600)
            sync_directory(self._directory)

    def _revoked(self, ca: CA, seen: dict[str, Any], now: float) -> tuple[list[Notice], list[list[Any]]]:
        """Notices of revocations that were not told, and what is remembered of those that were."""
        told = {serial for serial, _ in seen["revoked"]}
        latest = max([at for _, at in seen["revoked"]], default=seen["since"])
        issuer = ca.subject
        found, recent = [], []
        for each in ca.store.revocations(now)[1]:
            serial = f"{each.serial_number:x}"
            if each.at < max(seen["since"], latest - _OVERLAP_SECONDS):
                continue
            recent.append([serial, each.at])
            if serial not in told:
                at = datetime.fromtimestamp(each.at, UTC)
                found.append(Notice.revocation(issuer, each.serial_number, at=at, reason=each.reason))
        return found, recent or seen["revoked"]

    def _issued(self, ca: CA, seen: dict[str, Any], now: float) -> tuple[list[Notice], list[list[Any]]]:
        told = {serial for serial, _ in seen["issued"]}
        waits = ca.settings.authority.confirm_wait_seconds + _OVERLAP_SECONDS
        since = max(seen["since"], now - waits)
        found, recent, last = [], [], None
        wanted = CertificateSearch(states=frozenset((CertificateState.VALID,)), issued_after=since)
        while page := ca.store.search(wanted, 256, last):
            for each in page:
                serial = f"{each.serial_number:x}"
                recent.append([serial, each.issued_at])
                if serial not in told:
                    found.append(Notice.certificate(each.certificate))
            last = (page[-1].issued_at, page[-1].key)
        return found, recent

    def _keep(self, notice: Notice, now: float) -> None:
        number = max([int(each.stem) for each in self._waiting()], default=0) + 1
        self._write(
            self._directory / f"{number:012}.json",
            {
                "kind": int(notice.kind),
                "body": base64.b64encode(notice.body).decode(),
                "pvno": notice.pvno,
                "transaction_id": fresh_bytes(16).hex(),
                "made": now,
                "receivers": {each: [0, now] for each in self._settings.receivers},
            },
        )

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        replace_file(path, json.dumps(content).encode(), 0o600)
        sync_directory(self._directory)

    def _waiting(self) -> list[Path]:
        return sorted(each for each in self._directory.glob("*.json") if each.stem.isdigit())

    # -- what is due -----------------------------------------------------------------------------------------------

    def _send(self) -> None:
        stuck: set[str] = set()  # who did not take one gets no later one before it
        for path in self._waiting():
            content = json.loads(path.read_bytes())
            now = self._clock()
            notice = Notice(
                kind=BodyType(content["kind"]), body=base64.b64decode(content["body"]), pvno=content["pvno"]
            )
            left: dict[str, list[Any]] = {}
            for receiver, (attempts, due) in content["receivers"].items():
                if receiver not in self._settings.receivers:
                    continue
                left[receiver] = [attempts, due]
                if receiver not in stuck and due <= now:
                    if self._told(receiver, notice, content["transaction_id"]):
                        del left[receiver]
                        continue
                    left[receiver] = [attempts + 1, now + self._wait(attempts)]
                stuck.add(receiver)
            if left and now - content["made"] > self._settings.give_up_seconds:
                logger.error("an announcement (%s) did not reach %s", notice.kind.text, ", ".join(map(_shown, left)))
                left = {}
            if not left:
                path.unlink()
            elif left != content["receivers"]:
                self._write(path, {**content, "receivers": left})

    def _wait(self, attempts: int) -> float:
        return float(min(_MOST_WAIT_SECONDS, self._settings.retry_seconds * 2.0 ** min(attempts, 20)))

    def _told(self, receiver: str, notice: Notice, transaction_id: str) -> bool:
        """Whether nothing more is to be done for this receiver."""
        message = announcement_message(notice, self._protector(), transaction_id=bytes.fromhex(transaction_id))
        try:
            if receiver not in self._transports:
                trusted = self._settings.tls_trusted
                self._transports[receiver] = transport_for(
                    receiver, tls=None if trusted is None else TLS(trusted=trusted)
                )
            announce(self._transports[receiver], message, self._settings.timeout_seconds)
        except (Rejected, TransportError) as error:
            status = getattr(error, "http_status", None)
            final = isinstance(error, Rejected) or (status is not None and status < 500 and status not in _AGAIN)
            tell = logger.error if final else logger.warning
            tell("%s did not take an announcement (%s): %s", _shown(receiver), notice.kind.text, error)
            return final
        except (CMPError, OSError, ValueError) as error:
            logger.error("%s cannot be announced to: %s", _shown(receiver), error)
            return False
        return True


def _shown(url: str) -> str:
    """A URL without user and password."""
    scheme, slashes, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"
