"""The ways beside HTTP by which messages come to a worker: each is a ``Transfer``, and hands what comes to ``FrontEnd.ask``.

So all of them share the queue, its bounds and its fairness, the Responder on the loop's thread, and the commits of a turn.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Protocol

from opensslcmp.server.front import FrontEnd
from opensslcmp.server.maildir import Maildir
from opensslcmp.server.server_settings import ServerSettings
from opensslcmp.server.transfer_settings import TransferSettings
from opensslcmp.transport.mail_message import Mailer
from opensslcmp.transport.mailbox import Mailbox

__all__ = ["Transfer", "Transfers"]


class Transfer(Protocol):
    """A way by which messages come. All of it runs on the event loop of its worker."""

    async def drain(self, seconds: float) -> bool:
        """Take nothing more, and answer what was begun; False when ``seconds`` were not enough."""
        ...

    async def change_tls(self, tls: ssl.SSLContext) -> None:
        """Use this for what is connected from now on."""
        ...


class Transfers:
    """All that the settings name, in one worker.

    Args:
        front: where messages go.
        server: bounds, and TLS.
        settings: which ways.
        sockets: those that the first process bound, by their name in ``sockets_of``.
    """

    def __init__(
        self,
        front: FrontEnd,
        server: ServerSettings,
        settings: TransferSettings,
        sockets: Mapping[str, socket.socket],
    ) -> None:
        self._front = front
        self._server = server
        self._settings = settings
        self._sockets = sockets
        self._all: list[Transfer] = []

    async def start(self, tls: ssl.SSLContext | None) -> None:
        """Begin with all of them."""
        if self._settings.tcp_port is not None:
            from opensslcmp.server.tcp_front import TCPFront

            tcp = TCPFront(self._front)
            await tcp.listen(self._sockets["tcp"], tls)
            self._all.append(tcp)
        if self._settings.coap_port is not None:
            from opensslcmp.server.coap_front import CoAPFront

            coap = CoAPFront(self._front)
            await coap.listen(self._server.host, self._settings.coap_port)
            self._all.append(coap)
        for box in self._boxes():
            from opensslcmp.server.mailbox_front import MailboxFront

            front = MailboxFront(self._front, box)
            await front.start()
            self._all.append(front)

    def _boxes(self) -> Iterator[Mailbox | Maildir]:
        settings = self._settings
        if settings.mailbox is not None:
            yield Mailbox(settings.mailbox)
        if settings.maildir is not None and settings.mail_address is not None:
            mailer = Mailer(
                host=settings.smtp_host,
                port=settings.smtp_port,
                security=settings.smtp_security,
                user=settings.smtp_user,
                password_file=settings.smtp_password_file,
            )
            yield Maildir(settings.maildir, settings.mail_address, mailer)

    async def drain(self, seconds: float) -> bool:
        """Take nothing more, and answer what was begun; False when ``seconds`` were not enough."""
        return all(await asyncio.gather(*(each.drain(seconds) for each in self._all)))

    async def change_tls(self, tls: ssl.SSLContext) -> None:
        """Use this for what is connected from now on."""
        for each in self._all:
            await each.change_tls(tls)
