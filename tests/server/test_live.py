"""Settings that are read again while messages come."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from opensslcmp.enums import BodyType as B
from opensslcmp.enums import FailureInfo as F
from opensslcmp.server import CA, LiveResponder, Peer
from opensslcmp.server.tables import SettingsError
from tests.server.device import KEYS, certificate_of, crmf, mac_device, said, status_of
from tests.server.world import Clock, other_ca


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with closing(CA.create(tmp_path / "ca", "CN=Live CA")) as ca:
        ca.add_secret("device", "secret")
    return tmp_path / "ca"


@pytest.fixture
def live(directory: Path, clock: Clock) -> Iterator[LiveResponder]:
    with closing(LiveResponder(directory, clock=clock)) as made:
        yield made


def write(directory: Path, text: str) -> None:
    (directory / "opensslcmp.toml").write_text(text)


def failure(live: LiveResponder, clock: Clock, subject: str = "CN=device") -> F | None:
    return said(mac_device(live.handle, clock).ask(B.IR, crmf(KEYS[0], subject)))[1]


def test_a_reload_brings_new_settings_into_force(
    live: LiveResponder, directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ca, store = live.ca, live.responder.store
    assert failure(live, clock) is None
    write(directory, "[profiles.only]\nsubjects = ['CN=dev-*']\n")
    with caplog.at_level(logging.INFO, "opensslcmp.server"):
        assert live.reload()
    assert "the settings were read again" in caplog.text
    assert failure(live, clock) is F.BAD_CERT_TEMPLATE
    assert failure(live, clock, subject="CN=dev-1") is None
    assert live.ca is not ca
    assert live.responder.store is store


def test_a_transaction_goes_on_after_a_reload(live: LiveResponder, directory: Path, clock: Clock) -> None:
    device = mac_device(live.handle, clock)
    before = live.responder
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    write(directory, "[rules]\nprofile = 'lenient'\n")
    assert live.reload()
    assert live.responder is not before
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    # Whoever still holds the old one is answered too.
    again = mac_device(lambda der: before.handle(der, Peer()), clock)
    assert said(again.ask(B.IR, crmf(KEYS[1])))[1] is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[rules]\nprofile = 'strickt'\n[limits]\nmax_infos = 0", [":2: [rules] profile", ":4: [limits] max_infos"]),
        ("[rules", [":1: "]),
        ("[authority]\nkey = 'missing.key'", ["missing.key"]),
        ("[authority]\nkey = 'other.key'", ["not the CA certificate's"]),
        (None, ["opensslcmp.toml"]),
    ],
)
def test_what_cannot_be_read_leaves_the_old_settings_in_force(
    directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture, text: str | None, words: list[str]
) -> None:
    (directory / "other.key").write_bytes(other_ca()[1].to_pem())
    (directory / "other.key").chmod(0o600)
    write(directory, "[profiles.only]\nsubjects = ['CN=dev-*']\n")
    with closing(LiveResponder(directory, clock=clock)) as live:
        before = live.responder
        if text is None:
            (directory / "opensslcmp.toml").unlink()
        else:
            write(directory, text)
        assert not live.reload()
        assert live.responder is before
        assert failure(live, clock) is F.BAD_CERT_TEMPLATE
        for each in words:
            assert each in caplog.text
        write(directory, "")
        assert live.reload()
        assert failure(live, clock) is None


def test_what_needs_a_restart_is_named(live: LiveResponder, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(
        directory, "crl_url = 'http://ca.example/other'\n[server]\nport = 1\nworkers = 2\n[rules]\nprofile = 'strict'\n"
    )
    assert live.reload()
    told = [each.getMessage() for each in caplog.records]
    assert [each.partition(": ")[2] for each in told] == [
        "[server] port changed, which takes effect after a restart",
        "[server] workers changed, which takes effect after a restart",
        "the path of crl_url changed, which takes effect after a restart",
    ]


def test_what_was_counted_goes_on_unless_the_rates_changed(live: LiveResponder, directory: Path, clock: Clock) -> None:
    write(directory, "[limits.rate]\nfailures_per_minute_and_credential = 1\n")
    assert live.reload()

    def wrong() -> list[str]:
        answer = mac_device(live.handle, clock, "device", "wrong").ask(B.IR, crmf(KEYS[0]))
        return list(status_of(answer).text)

    assert wrong() != wrong() == ["too many messages; try again later"]
    write(directory, "[limits.rate]\nfailures_per_minute_and_credential = 1\n[rules]\nprofile = 'strict'")
    assert live.reload()
    assert wrong() == ["too many messages; try again later"]
    write(directory, "[limits.rate]\nfailures_per_minute_and_credential = 2\n")
    assert live.reload()
    assert wrong() != ["too many messages; try again later"]


def test_a_bug_leaves_the_old_settings_in_force(
    live: LiveResponder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = live.responder
    monkeypatch.setattr("opensslcmp.server.live.open_responder", {}.__getitem__)
    assert not live.reload()
    assert live.responder is before
    assert "Traceback" in caplog.text


def test_options_win_over_the_file_when_it_is_read_again_too(directory: Path, clock: Clock) -> None:
    with closing(LiveResponder(directory, clock=clock, profile="strict", approval=True)) as live:
        write(directory, "[rules]\nprofile = 'lenient'\n[authority]\napproval = 'none'\n")
        assert live.reload()
        assert live.responder.profile.name == "strict"
        assert live.responder.authority is not live.ca


def test_a_file_elsewhere_is_read_and_has_to_be_there(directory: Path, tmp_path: Path, clock: Clock) -> None:
    place = tmp_path / "elsewhere.toml"
    with pytest.raises(FileNotFoundError):
        LiveResponder(directory, config=place, clock=clock)
    place.write_text("[limits]\nmax_infos = 'x'")
    with pytest.raises(SettingsError, match=r"elsewhere\.toml:2: \[limits\] max_infos is not a whole number"):
        LiveResponder(directory, config=place, clock=clock)
    place.write_text("[rules]\nprofile = 'strict'")
    with closing(LiveResponder(directory, config=place, clock=clock)) as live:
        assert live.responder.profile.name == "strict"
        assert live.sweep() == 0
        assert live.current_crl().number == 1
        live.publish()
