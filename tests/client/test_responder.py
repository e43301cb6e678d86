"""Against the package's own server, in this process: the life of a certificate, and many clients at once."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opensslcmp import CMPError, Context, Issued, PKIStatus, Rejected, Session, SharedSecret, Signer
from opensslcmp.server.ca import CA, open_responder
from opensslcmp.server.responder import Responder
from opensslcmp.transport import InProcess
from tests.client.client_peers import TWINS

SECRET = SharedSecret("device-17", "open sesame")


@pytest.fixture(params=["rfc9810", "strict"])
def responder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Responder]:
    ca = CA.create(tmp_path / "ca")
    ca.add_secret(SECRET.reference, SECRET.secret)
    ca.close()
    responder = open_responder(tmp_path / "ca", profile=request.param)
    yield responder
    responder.close()


def signer_of(result: Issued) -> Signer:
    return Signer(result.certificate, result.key, result.chain)


@pytest.mark.parametrize("kind", ["ec:P-256", "rsa:2048", "ed25519"])
@TWINS
def test_the_life_of_a_certificate(responder: Responder, kind: str, twin: Callable[..., Session]) -> None:
    transport = InProcess(responder)
    first = twin(Context(credential=SECRET), transport).enroll("CN=device-17", generate=kind)
    anchor = first.chain[-1]
    session = twin(Context(credential=signer_of(first), trusted=anchor), transport)
    second = session.update(generate=kind)
    assert second.certificate.subject == first.certificate.subject
    session = twin(Context(credential=signer_of(second), trusted=anchor), transport)
    assert session.ca_certificates() == (anchor,)
    assert session.root_ca_update() is None
    assert session.revoke().status is PKIStatus.ACCEPTED
    with pytest.raises(CMPError):
        session.update(generate=kind)


def test_fifty_clients_at_once(responder: Responder) -> None:
    session = Session(Context(credential=SECRET), InProcess(responder))
    outcomes: list[Any] = []

    def work(number: int) -> None:
        try:
            outcomes.append(session.enroll(f"CN=device-{number}", generate="ec:P-256"))
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [outcome for outcome in outcomes if not isinstance(outcome, Issued)] == []
    assert len({outcome.certificate.serial_number for outcome in outcomes}) == 50


def test_a_refusal_is_told(responder: Responder) -> None:
    session = Session(Context(credential=SECRET, popo="raVerified"), InProcess(responder))
    with pytest.raises(Rejected) as caught:
        session.enroll("CN=device-17", generate="ec:P-256")
    assert caught.value.failure is not None
