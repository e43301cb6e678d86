"""CMP over CoAP, the server's side, on the worker's event loop. Needs ``aiocoap`` (the extra ``coap``).

What a request gets, first match first:

==========================================================  ==========================================================
it is a GET of /.well-known/core                            2.05 and where CMP is, as RFC 6690 writes links
its path is none of ours                                    4.04
its method is not POST                                      4.05
its Content-Format is not 259                               4.15
it is longer than the limit, by the blocks so far           4.13
there are too many blocks of messages that are not whole    5.03
the server fails                                            5.00
it is an announcement                                       2.04 without a payload, or 4.00, 4.03, 5.03
anything else                                               2.04 and what the responder says, in Content-Format 259
==========================================================  ==========================================================

Paths are HTTP's, with the short names of operations that RFC 9483 has for CoAP. Blocks both ways are aiocoap's work.

Source: RFC 9482, 2; RFC 9483, 6.2; RFC 7959; RFC 6690.
"""

from __future__ import annotations

import logging
import ssl
from collections import OrderedDict
from typing import Any

import aiocoap
from aiocoap import error, resource

from opensslcmp.server.front import FrontEnd
from opensslcmp.server.http_service import PKIXCMP, Place
from opensslcmp.server.peer import Peer
from opensslcmp.transport.coap import CONTENT_FORMAT

__all__ = ["COAP_OPERATIONS", "CoAPFront", "place_of"]

COAP_OPERATIONS = {
    "ir": "initialization",
    "cr": "certification",
    "kur": "keyupdate",
    "p10": "pkcs10",
    "rr": "revocation",
    "crts": "getcacerts",
    "rcu": "getrootupdate",
    "att": "getcertreqtemplate",
    "crls": "getcrls",
    "nest": "nested",
}
"""Operation labels of CoAP, and those of HTTP that mean the same (RFC 9483, 6.1 and 6.2)."""

_CORE = (".well-known", "core")
_LINK_FORMAT = 40
_LINK = {"href": "/.well-known/cmp", "rt": "cmp", "ct": str(CONTENT_FORMAT)}
_LINKS = f'<{_LINK["href"]}>;rt="{_LINK["rt"]}";ct={_LINK["ct"]}'.encode()
_CODES = {400: aiocoap.BAD_REQUEST, 403: aiocoap.FORBIDDEN, 503: aiocoap.SERVICE_UNAVAILABLE}

# How long aiocoap keeps blocks of a message that does not become whole (MAX_TRANSMIT_WAIT of RFC 7252).
_KEPT_SECONDS = 93.0
_log = logging.getLogger("opensslcmp.server")


def place_of(path: tuple[str, ...]) -> Place | None:
    """Label and operation of a path, or None when it is not ours (RFC 9482, 2.2)."""
    match path:
        case (".well-known", "cmp") | (".well-known", "cmp", ""):
            return Place()
        case (".well-known", "cmp", "p", label) | (".well-known", "cmp", "p", label, "") if label:
            return Place(label)
        case (".well-known", "cmp", operation) if operation in COAP_OPERATIONS:
            return Place(None, COAP_OPERATIONS[operation])
        case (".well-known", "cmp", "p", label, operation) if label and operation in COAP_OPERATIONS:
            return Place(label, COAP_OPERATIONS[operation])
    return None


class CoAPFront(resource.Resource):  # type: ignore[misc]
    """Serves CMP over CoAP on the running event loop.

    Args:
        front: where messages go; its bounds count here too.
    """

    def __init__(self, front: FrontEnd) -> None:
        super().__init__()
        self._front = front
        self._limit = front.routes.max_request_bytes
        self._context: Any = None
        self._partial: OrderedDict[object, tuple[float, int]] = OrderedDict()
        self._partial_bytes = 0
        self._draining = False

    async def listen(self, host: str, port: int) -> None:
        """Take requests on a UDP port. Several workers may have the same: each gets those of some peers.

        Raises:
            OSError: the port cannot be had.
        """
        self._context = await aiocoap.Context.create_server_context(self, bind=(host, port), transports=["udp6"])
        for each in self._context.request_interfaces:
            _refuse_quietly(each.token_interface.message_interface)

    async def change_tls(self, tls: ssl.SSLContext) -> None:
        """There is none."""

    async def drain(self, seconds: float) -> bool:
        """Take nothing more; what was begun and not answered is asked again by its client, of another server."""
        self._draining = True
        if self._context is not None:
            await self._context.shutdown()
        return True

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        """Whether aiocoap puts blocks together; refuses what would become too much."""
        if self._draining:
            raise error.ServiceUnavailable
        self._check(request)
        block = request.opt.block1
        if block is None:
            if len(request.payload) > self._limit:
                raise error.RequestEntityTooLarge
            return True
        if block.start + len(request.payload) > self._limit:
            raise error.RequestEntityTooLarge
        now = self._front.loop.time()
        while self._partial and next(iter(self._partial.values()))[0] < now:
            self._forget(next(iter(self._partial)))
        key = (request.remote.blockwise_key, request.opt.uri_path, request.opt.request_tag)
        before = self._partial.get(key, (0.0, 0))[1] if block.block_number else 0
        self._forget(key)
        if not block.more:
            return True
        size = before + len(request.payload)
        if self._partial_bytes + size > self._front.bounds.max_buffered_bytes:
            raise error.ServiceUnavailable
        self._partial[key] = (now + _KEPT_SECONDS, size)
        self._partial_bytes += size
        return True

    def _forget(self, key: object) -> None:
        self._partial_bytes -= self._partial.pop(key, (0.0, 0))[1]

    def _check(self, request: Any) -> Place:
        place = place_of(request.opt.uri_path)
        if request.opt.uri_path == _CORE and request.code is aiocoap.GET:
            return Place()
        if place is None:
            raise error.NotFound
        if request.code is not aiocoap.POST:
            raise error.UnallowedMethod
        block = request.opt.block2  # who asks for the rest of an answer sends nothing, so needs to say no format
        if request.opt.content_format != CONTENT_FORMAT and not (block is not None and block.block_number):
            raise error.UnsupportedContentFormat
        return place

    async def render_get(self, request: Any) -> Any:
        """Where CMP is, for who asks for all that is here or for what he names (RFC 6690, 4)."""
        self._check(request)
        asked = dict(each.partition("=")[::2] for each in request.opt.uri_query)
        fits = all(name not in asked or _matches(asked[name], value) for name, value in _LINK.items())
        payload = _LINKS if fits else b""
        return aiocoap.Message(code=aiocoap.CONTENT, payload=payload, content_format=_LINK_FORMAT)

    async def render_post(self, request: Any) -> Any:
        """The answer to a whole message."""
        place = self._check(request)
        peer = Peer(address=_address_of(request.remote), label=place.label, operation=place.operation)
        reply = await self._front.ask(request.payload, peer)
        if reply.content_type == PKIXCMP:
            return aiocoap.Message(code=aiocoap.CHANGED, payload=reply.body, content_format=CONTENT_FORMAT)
        if reply.status < 300:
            return aiocoap.Message(code=aiocoap.CHANGED)
        return aiocoap.Message(code=_CODES.get(reply.status, aiocoap.INTERNAL_SERVER_ERROR), payload=reply.body.strip())


def _refuse_quietly(endpoint: Any) -> None:
    """Drop a datagram with an option that is no UTF-8, of which aiocoap would leave a traceback in the log."""
    take = endpoint.datagram_msg_received

    def taken(*datagram: Any) -> None:
        try:
            take(*datagram)
        except UnicodeDecodeError:
            _log.info("a datagram that is not CoAP")

    endpoint.datagram_msg_received = taken


def _matches(pattern: str, value: str) -> bool:
    """As filters of discovery do: the whole value, or what it begins with before ``*``."""
    pattern = pattern.strip('"')
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _address_of(remote: Any) -> str:
    address: str = remote.hostinfo.rpartition(":")[0] if not remote.hostinfo.endswith("]") else remote.hostinfo
    address = (address or remote.hostinfo).strip("[]")
    return address.removeprefix("::ffff:") if "." in address else address
