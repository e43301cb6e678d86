"""The diagrams of docs/how-cmp-works.md are of real exchanges: recorded here, and compared with the page.

``python -m tests.test_how_cmp_works`` writes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from opensslcmp import BadMessage, FailureInfo, Rejected, RevocationReason
from opensslcmp.asn1.sequence import sequence_diagram
from opensslcmp.testing import CA, Misissue, Reject, Wait

PAGE = Path(__file__).parents[1] / "docs" / "how-cmp-works.md"
BLOCK = re.compile(r"<!-- exchange: (.+?) -->\n```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def first(ca: CA) -> None:
    ca.session().enroll("CN=device-1", generate="ec:P-256")


def implicit(ca: CA) -> None:
    ca.session().enroll("CN=device-1", generate="ec:P-256", implicit_confirm=True)


def update(ca: CA) -> None:
    ca.session(ca.issue("CN=device-1")).update(generate="ec:P-256")


def waiting(ca: CA) -> None:
    with ca.misbehave(Wait(polls=1, check_after_seconds=1, text="an operator decides")):
        ca.session(max_poll_seconds=0.01).enroll("CN=device-1", generate="ec:P-256")


def refused(ca: CA) -> None:
    with ca.misbehave(Reject(FailureInfo.BAD_CERT_TEMPLATE, "no such device")), pytest.raises(Rejected):
        ca.session().enroll("CN=device-2", generate="ec:P-256")


def wrong(ca: CA) -> None:
    with ca.misbehave(Misissue("subject")), pytest.raises(BadMessage):
        ca.session().enroll("CN=device-1", generate="ec:P-256")


def revoked(ca: CA) -> None:
    ca.session(ca.issue("CN=device-1")).revoke(reason=RevocationReason.KEY_COMPROMISE)


def questions(ca: CA) -> None:
    ca.session(ca.issue("CN=device-1")).ca_certificates()


EXCHANGES: dict[str, Callable[[CA], None]] = {
    "a first certificate": first,
    "implicit confirmation": implicit,
    "an update": update,
    "waiting": waiting,
    "a refusal": refused,
    "a certificate that the client does not want": wrong,
    "a revocation": revoked,
    "a question": questions,
}


def recorded(name: str) -> str:
    """The diagram of one of the exchanges, as it goes now."""
    with CA("CN=Example CA") as ca:
        ca.secret("device")
        EXCHANGES[name](ca)
        messages = [each for exchange in ca.exchanges for each in (exchange.request, exchange.answer) if each]
    return sequence_diagram(messages)


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_page_shows_the_exchange_as_it_goes(name: str) -> None:
    shown = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    assert shown[name] == recorded(name)


def test_nothing_else_is_shown() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name, _ in BLOCK.findall(text)] == list(EXCHANGES)
    assert text.count("```mermaid") == len(EXCHANGES)


def main() -> None:
    """Write the diagrams into the page."""
    text = PAGE.read_text(encoding="utf-8")

    def again(found: re.Match[str]) -> str:
        return f"<!-- exchange: {found[1]} -->\n```mermaid\n{recorded(found[1])}```"

    PAGE.write_text(BLOCK.sub(again, text), encoding="utf-8")


if __name__ == "__main__":
    main()
