"""A Maildir with requests, which are answered by SMTP: a ``Box`` for ``MailboxFront``, as a directory of files is one.

A mail is locked while somebody works on it, and removed once its answer was handed to the SMTP server. A worker that dies in
between leaves it to another one, so the same answer may be sent twice, under the same Message-ID; nothing is lost. What is no
request, or must not be answered (``mail_message``), goes to the folder ``.Rejected``, with a reason in a file beside it.

Source: RFC 2510, 5.3; RFC 3834.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opensslcmp.transport.mail_message import Letter, Mailer, compose, open_letter
from opensslcmp.transport.mailbox import claim, put

__all__ = ["Maildir"]


class Maildir:
    """The mails of a Maildir. May be used by several threads and processes at once.

    Args:
        directory: with ``new``, ``cur`` and ``tmp``; made when they are not there.
        address: ours, from which answers come.
        mailer: takes answers.
    """

    def __init__(self, directory: Path, address: str, mailer: Mailer) -> None:
        self.directory = directory
        self._address = address
        self._mailer = mailer
        self._letters: dict[Path, Letter] = {}

    def create(self) -> None:
        """Make the directories that are not there."""
        for place in (self.directory, self.directory / ".Rejected"):
            for each in ("new", "cur", "tmp"):
                (place / each).mkdir(parents=True, exist_ok=True)

    def tidy(self) -> None:
        """Nothing: drafts in tmp are who delivers mail's."""

    def waiting(self, most: int) -> list[tuple[Path, str | None]]:
        """Mails that are there, the oldest first."""
        with os.scandir(self.directory / "new") as entries:
            found = []
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if not entry.name.startswith("."):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
        return [(path, None) for _, path in sorted(found)[:most]]

    @contextmanager
    def claimed(self, path: Path, limit: int) -> Iterator[bytes | None]:
        """The request in a mail, and the right to answer it while the block lasts; None when somebody else has it.

        Raises:
            Unusable: it is no request, or must not be answered.
        """
        with claim(path, 2 * limit + 65536) as content:
            if content is None:
                yield None
                return
            letter = self._letters[path] = open_letter(content, self._address, limit)
            try:
                yield letter.message
            finally:
                del self._letters[path]

    def describe(self, path: Path, label: str | None) -> tuple[str, str | None, float]:
        """Within ``claimed``: whose a mail is, the label that it went to, and its age in seconds."""
        letter = self._letters[path]
        return f"mailto:{letter.sender}", letter.label, time.time() - path.stat(follow_symlinks=False).st_mtime

    def publish(self, path: Path, answer: bytes) -> None:
        """Within ``claimed``: send the answer, and remove the mail. No bytes: there is no answer.

        Raises:
            OSError: it could not be sent; the mail stays.
        """
        letter = self._letters[path]
        if answer:
            reply = compose(answer, self._address, letter.sender, answers=letter.id or "<unknown>")
            self._mailer.send(reply, self._address, letter.sender)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()

    def reject(self, path: Path, reason: str) -> None:
        """Move aside what is not answered, and say why, in a file beside it."""
        target = self.directory / ".Rejected" / "new" / path.name
        with contextlib.suppress(FileNotFoundError):
            path.rename(target)
            put(self.directory / ".Rejected" / f"{path.name[:100]}.reason", f"{reason}\n".encode())
