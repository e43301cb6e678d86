"""A worker of a mailbox that is killed at a point of its work: ``killed_mailbox.py CA MAILBOX POINT``."""

import os
import signal
import sys
from pathlib import Path

from opensslcmp.server import Peer, open_responder
from opensslcmp.transport import mailbox
from opensslcmp.transport.mailbox import Mailbox

POINT = sys.argv[3]


def die(point: str) -> None:
    if point == POINT:
        os.kill(os.getpid(), signal.SIGKILL)


box = Mailbox(sys.argv[2])
responder = open_responder(Path(sys.argv[1]))
((path, _),) = box.waiting(10)
put = mailbox.put


def watched(path: Path, content: bytes) -> None:
    put(path, content)
    die("published")


mailbox.put = watched
with box.claimed(path, 1 << 20) as request:
    assert request is not None
    die("claimed")
    answer = responder.handle(request, Peer())
    die("answered")
    box.publish(path, answer)
