"""A client that is killed, and begins again: ``python -m tests.client.journal_client URL JOURNAL LABELS KILLS SEED``.

Each round is a process of its own, forked from this one. It takes up what is unfinished, and enrolls the next labels. In
``KILLS`` of the rounds it is killed by signal 9 at a moment drawn by chance, most often while it talks or writes. Then rounds go
on until all labels have their certificate. Prints how many rounds were killed, and how many had something to take up again.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import traceback
from pathlib import Path

from opensslcmp import Context, Journal, Session, SharedSecret

PASSWORD = b"journal-password"
SECRET = SharedSecret("device", "secret")


def work(url: str, path: Path, labels: list[str], ready: int) -> None:
    """One life of the client."""
    context = Context(url, credential=SECRET, message_timeout_seconds=20.0)
    with Journal(path, password=PASSWORD) as journal:
        session = Session(context, journal=journal)
        os.write(ready, b"r" if journal.unfinished() else b"n")
        for outcome in session.recover():
            assert outcome.error is None, outcome.error
        counts = journal.counts()
        for label in labels[sum(counts.values()) :]:
            session.enroll(f"CN={label}", generate="ec:P-256", label=label)


def main(url: str, path: Path, count: int, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    labels = [f"device-{number}" for number in range(count)]
    killed = resumed = 0
    while True:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                work(url, path, labels, writing)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(writing)
        if killed < kills:
            # From the moment that it has the journal: before that there is nothing to lose.
            resumed += os.read(reading, 1) == b"r"
            select.select([], [], [], chance.uniform(0.0, 0.03))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reading)
        if os.WIFSIGNALED(status):
            killed += 1
            continue
        assert status == 0, status
        if killed >= kills:
            break
        # Killed too late: it had finished. More labels keep the next rounds busy.
        labels += [f"device-{number}" for number in range(len(labels), len(labels) + count)]
    print(killed, resumed, len(labels))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *(int(each) for each in sys.argv[3:6]))
