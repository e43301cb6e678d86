"""What is written about settings is what they are."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from opensslcmp.enums import BodyType as B
from opensslcmp.enums import FailureInfo as F
from opensslcmp.server import CA, Peer, Policy, open_responder
from opensslcmp.server.settings import Settings
from tests.server.configuration_page import DOCUMENT, ROOT, keys, page, tables
from tests.server.device import KEYS, crmf, mac_device, said
from tests.server.world import Clock, other_ca

EXAMPLE = (ROOT / "examples" / "opensslcmp.toml").read_text(encoding="utf-8")


def test_the_page_of_the_settings_is_written_anew_when_they_change() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page(), "run python -m tests.server.configuration_page"


def test_every_key_of_every_table_is_explained() -> None:
    found = {f"[{name}] {key}": text for name, schema in tables() for key, _, _, text in keys(schema, name)}
    assert len(found) > 100
    assert all(found.values())


@pytest.mark.parametrize("switched_on", [False, True])
def test_the_example_is_one_that_serves(tmp_path: Path, clock: Clock, switched_on: bool) -> None:
    ca = CA.create(tmp_path / "ca")
    ca.add_secret("device-1", "secret")
    ca.close()
    text = re.sub(r"^#(?=\S)", "", EXAMPLE, flags=re.MULTILINE) if switched_on else EXAMPLE
    certificate = other_ca()[0]
    for name in ("ra.pem", "maker.pem"):
        (tmp_path / "ca" / name).write_bytes(certificate)
    (tmp_path / "ca" / "opensslcmp.toml").write_text(text)
    settings = Settings.load(tmp_path / "ca" / "opensslcmp.toml")
    assert (settings.authority.approval == "manual") is switched_on
    with closing(open_responder(tmp_path / "ca", clock=clock)) as responder:
        device = mac_device(lambda der: responder.handle(der, Peer(label="factory")), clock, "device-1")
        answer = device.ask(B.IR, crmf(KEYS[0], "CN=device-1,O=Example"), implicit=True)
        if not switched_on:  # else it waits for approval
            assert said(answer) == (B.IP, None)
        assert said(device.ask(B.IR, crmf(KEYS[0], "CN=device-1,O=Other")))[1] is F.BAD_CERT_TEMPLATE


def test_the_policy_in_the_documentation_does_what_it_says(tmp_path: Path, clock: Clock) -> None:
    section = (ROOT / "docs" / "server.md").read_text(encoding="utf-8").partition("\n## Who may ask\n")[2]
    code = re.search(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert code
    with closing(CA.create(tmp_path / "my-ca")) as ca:
        ca.add_secret("device-1", "secret")
        ca.add_secret("other", "secret")
    names: dict[str, Any] = {}
    exec(code[1].replace('"my-ca"', repr(str(tmp_path / "my-ca"))), names)
    policy: Policy = names["OfficeHours"]()
    assert policy is not None
    with closing(names["responder"]) as responder:
        for hour, expected in ((3, F.SYSTEM_UNAVAIL), (12, None)):
            responder._clock = clock
            clock.now = clock.now // 86400 * 86400 + hour * 3600
            assert said(mac_device(responder.handle, clock, "device-1").ask(B.IR, crmf(KEYS[0])))[1] is expected
        assert said(mac_device(responder.handle, clock, "other").ask(B.IR, crmf(KEYS[0])))[1] is F.NOT_AUTHORIZED
        assert said(mac_device(responder.handle, clock, "other").send(B.GENM, []))[1] is None
