"""A CA and devices with keys of every kind: proof of possession, certificates, paths and protection in whole transactions."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import Context, Session, SharedSecret, Signer
from opensslcmp.context.certificates import Trust
from opensslcmp.errors import ProtectionError
from opensslcmp.server import CA, open_responder
from opensslcmp.transport import InProcess
from tests.client.client_peers import TWINS

KINDS = [
    "ec:P-224",
    "ec:P-521",
    "ec:brainpoolP256r1",
    "ec:brainpoolP384t1",
    "rsa:2048",
    "rsa-pss:2048",
    "ed25519",
    "ed448",
]
NEW = ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "slh-dsa-sha2-128f", "slh-dsa-shake-128f", "slh-dsa-sha2-256f"]


@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.needs("3.5")) for kind in NEW)])
@TWINS
def test_a_key_of_any_kind_is_certified_and_signs_messages(
    kind: str, twin: Callable[..., Session], tmp_path: Path
) -> None:
    ca = CA.create(tmp_path / "ca", key=kind)
    secret = SharedSecret("device", ca.add_secret("device"))
    ca.close()
    with contextlib.closing(open_responder(tmp_path / "ca")) as responder:
        way = InProcess(responder)
        first = twin(Context(credential=secret, certificates_trusted=ca.certificate), way).enroll(
            "CN=device", generate=kind
        )
        signer = Signer(first.certificate, first.key, first.chain)
        session = twin(Context(credential=signer, trusted=ca.certificate), way)
        second = session.update(generate=kind)
        assert second.protection.signer is not None
        leaf, root = Trust(ca.certificate).path(second.certificate.public_bytes(Encoding.DER))
        assert root == ca.certificate
        damaged = leaf[:-3] + bytes((leaf[-3] ^ 1,)) + leaf[-2:]
        with pytest.raises(ProtectionError):
            Trust(ca.certificate).path(damaged)
        session = twin(Context(credential=Signer(second.certificate, second.key), trusted=ca.certificate), way)
        session.revoke()


@pytest.mark.parametrize("digest", ["SHA512", "SHA3-256", "SHAKE128", "SHAKE256"])
@pytest.mark.parametrize(("kind", "pss"), [("ec:P-256", False), ("rsa:2048", True)])
def test_a_device_chooses_how_it_signs(kind: str, pss: bool, digest: str, tmp_path: Path) -> None:
    ca = CA.create(tmp_path / "ca")
    secret = SharedSecret("device", ca.add_secret("device"))
    ca.close()
    with contextlib.closing(open_responder(tmp_path / "ca")) as responder:
        way = InProcess(responder)
        first = Session(Context(credential=secret), way).enroll("CN=device", generate=kind)
        signer = Signer(first.certificate, first.key, first.chain, digest=digest, pss=pss)
        assert Session(Context(credential=signer, trusted=ca.certificate), way).update(generate=kind).status.name
