"""All targets by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.fuzz import asn1_targets, client_targets, file_targets, server_targets, transfer_targets
from tests.fuzz.engine import Target

TARGETS: dict[str, Callable[[], AbstractContextManager[Target]]] = {
    "gate": asn1_targets.gate,
    "structures": asn1_targets.structures,
    "inspect": asn1_targets.inspecting,
    "certificates": asn1_targets.certificates,
    "envelopes": asn1_targets.envelopes,
    "responder": server_targets.strangers,
    "requests": server_targets.requests,
    "answers": client_targets.answers,
    "contents": client_targets.contents,
    "http": transfer_targets.http_front,
    "http-client": transfer_targets.http_client,
    "tcp": transfer_targets.tcp_front,
    "coap": transfer_targets.coap_front,
    "mail": transfer_targets.letters,
    "mailbox": transfer_targets.mailbox,
    "keys": file_targets.keys,
    "inventory": file_targets.inventories,
    "settings": file_targets.settings,
    "journal": file_targets.journals,
    "pending": file_targets.pendings,
}
