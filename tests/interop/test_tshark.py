"""tshark's CMP dissector reads in messages what ``opensslcmp inspect`` shows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opensslcmp import Context, MacParameters, Rejected, Session, SharedSecret, Signer
from opensslcmp.enums import RevocationReason
from opensslcmp.transport import InProcess
from tests.interop import dissector
from tests.interop.bouncycastle import messages, missing
from tests.server.world import fresh_world

pytestmark = pytest.mark.skipif(dissector.missing() is not None, reason=dissector.missing() or "")
PUBLISHED = sorted((Path(__file__).parent.parent / "data" / "cmp").glob("*.der"))


def differences(found: list[tuple[str, bytes]]) -> list[str]:
    dissected = dissector.dissect(message for _, message in found)
    return [
        f"{name}: {difference}"
        for (name, message), fields in zip(found, dissected, strict=True)
        for difference in dissector.compare(message, fields)
    ]


def test_it_agrees_on_messages_of_openssl_cmp() -> None:
    assert len(PUBLISHED) > 50
    assert differences([(path.stem, path.read_bytes()) for path in PUBLISHED]) == []


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_it_agrees_on_messages_of_bouncy_castle() -> None:
    assert differences(messages()) == []


class Kept:
    """A transport that keeps what passes."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.messages: list[tuple[str, bytes]] = []

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        answer: bytes = self._transport.send(request, timeout_seconds)
        self.messages += [(f"message {len(self.messages)}", request), (f"answer {len(self.messages)}", answer)]
        return answer


@pytest.mark.parametrize("scheme", ["pbm", "pbmac1"])
def test_it_agrees_on_messages_of_ours(scheme: str) -> None:
    world = fresh_world()
    world.ca.add_secret("device", "correct horse")
    kept = Kept(InProcess(world.responder))
    secret = SharedSecret("device", "correct horse", parameters=MacParameters(scheme=scheme))
    first = Session(Context(credential=secret), kept).enroll("CN=device", generate="ec:P-256")
    signer = Signer(first.certificate, first.key, first.chain)
    session = Session(Context(credential=signer, trusted=first.ca_certificates), kept)
    session.enroll("CN=other", generate="ed448", kind="cr")
    session.ca_certificates()
    session.update(generate="ec:P-384")
    with pytest.raises(Rejected):
        session.revoke(reason=RevocationReason.SUPERSEDED)
    assert differences(kept.messages) == []
    assert len(kept.messages) == 16


def test_a_difference_is_told() -> None:
    one, other = ((path.read_bytes()) for path in PUBLISHED[:2])
    (dissected,) = dissector.dissect([other])
    assert [each.partition(":")[0] for each in dissector.compare(one, dissected)] == [
        "body",
        "senderNonce",
        "recipNonce",
        "protection",
    ]
