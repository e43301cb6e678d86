"""What a stranger can make the server work is bounded: counted here, measured by ``benchmarks.dearest``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks import dearest
from opensslcmp.asn1 import Limits, admit, wrap
from opensslcmp.context import certificates, protection
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacLimits, MacProtector
from opensslcmp.credentials import MacParameters, SharedSecret
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import Responder, open_responder
from opensslcmp.server.ca import CA
from tests.context.issuing import INTER, INTER_KEY, ROOT, certificate, der, key
from tests.server.device import said
from tests.server.world import World


class Counting:
    """``lib``, with its calls counted; of a path, the certificates that it decodes."""

    def __init__(self, lib: Any, calls: Counter[str]) -> None:
        self._lib, self._calls = lib, calls

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._lib, name)
        if not name.startswith("opensslcmp_"):
            return value

        def called(*arguments: Any) -> Any:
            self._calls[name] += arguments[3] if name == "opensslcmp_path" else 1
            return value(*arguments)

        return called


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Responder, bytes]]:
    place = tmp_path_factory.mktemp("dearest") / "ca"
    ca = CA.create(place, "CN=CA")
    ca.close()
    responder = open_responder(place)
    responder._throttle = None
    yield responder, ca.certificate
    responder.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    found: Counter[str] = Counter()
    for module in certificates, protection:
        monkeypatch.setattr(module, "lib", Counting(module.lib, found))

    for module in certificates, protection:
        verify = module.verify_signature

        def counted(*arguments: Any, name: str = module.__name__, verify: Any = verify, **options: Any) -> None:
            found[f"signatures in {name.rpartition('.')[2]}"] += 1
            verify(*arguments, **options)

        monkeypatch.setattr(module, "verify_signature", counted)
    return found


def test_no_message_of_a_stranger_takes_more_than_a_few_steps(
    server: tuple[Responder, bytes], calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    responder, ca = server
    monkeypatch.setattr(dearest, "_KINDS_3_5", ())
    seen = 0
    for name, make in dearest.cases(ca):
        message = make()
        calls.clear()
        answer = admit(responder.handle(message), limits=Limits(min_id_bytes=0))
        assert answer.body_type is BodyType.ERROR, name
        assert calls["opensslcmp_path"] <= 1, (name, calls)  # the leaf, when it claims to be the CA's
        assert calls["signatures in certificates"] <= 4, (name, calls)
        assert calls["signatures in protection"] == 0, (name, calls)  # under a key of the stranger's choice
        assert calls["opensslcmp_pbm"] + calls["opensslcmp_pbmac1"] <= 1, (name, calls)
        seen += 1
    assert seen > 30


@pytest.mark.parametrize("many", ["extensions", "purposes", "names", "octets"])
def test_a_certificate_that_holds_too_much_is_not_looked_into(
    server: tuple[Responder, bytes], calls: Counter[str], many: str
) -> None:
    responder, _ = server
    key = PrivateKey.generate("ec:P-256")
    extension = wrap(0x30, b"\x06\x03\x2a\x03\x04" + wrap(0x04, b""))
    subject = dearest._name(b"stranger")
    extensions = {
        "extensions": extension * 65,
        "purposes": wrap(0x30, b"\x06\x03\x55\x1d\x25" + wrap(0x04, wrap(0x30, b"\x06\x02\x2a\x03" * 65))),
        "names": b"",
        "octets": wrap(0x30, b"\x06\x03\x2a\x03\x04" + wrap(0x04, bytes(5000))),
    }[many]
    issuer = dearest._name(b"n" * 5000) if many == "names" else dearest._name(b"CA")
    certificate = dearest._certificate(key.public_key_der, subject, issuer, extensions)
    how = key.signature_algorithm()
    message = dearest._message(
        identifier=how,
        protection=lambda part: key.sign(part, how),
        certificates=(certificate,),
        sender=subject,
        kid=None,
    )
    refused = said(admit(responder.handle(message)))
    assert refused[0] is BodyType.ERROR
    assert refused[1] in {FailureInfo.BAD_MESSAGE_CHECK, FailureInfo.SIGNER_NOT_TRUSTED}
    assert calls["opensslcmp_path"] == 0


@pytest.mark.parametrize(
    ("owf", "length", "blocks"),
    [("SHA1", 20, 1), ("SHA1", 64, 4), ("SHA256", 32, 1), ("SHA256", 33, 2), ("SHA256", 64, 2)],
)
def test_a_key_of_several_blocks_is_derived_as_often_less(
    world: World, make: Callable[..., World], owf: str, length: int, blocks: int
) -> None:
    limits = MacLimits(max_pbkdf2_iterations=400)
    world = make(mac_limits=limits)
    device = world.device()
    assert isinstance(device.credential, MacProtector)
    for iterations, refused in ((400 // blocks, False), (400 // blocks + 1, True)):
        parameters = MacParameters(
            scheme="pbmac1", owf=owf, mac="hmac-sha256", iterations=iterations, key_length=length
        )
        device.credential = MacProtector(SharedSecret("device", "secret", parameters=parameters))
        device.begin()
        answer = admit(world.responder.handle(device.build(BodyType.GENM, [])))
        assert (said(answer)[1] is FailureInfo.BAD_ALG) is refused


def test_the_command_measures_each(capsys: pytest.CaptureFixture[str]) -> None:
    dearest.main(["--tries", "1", "--only", "garbage"])
    assert capsys.readouterr().out.rstrip().endswith("us  garbage, 1 kB")


def test_path_of_a_real_intermediate_is_found_beside_false_ones() -> None:
    leaf = der(certificate("leaf", key(), "intermediate", INTER_KEY))
    inter = der(INTER)
    about = certificates.facts(inter)
    stranger = PrivateKey.generate("ec:P-256").public_key_der
    alike = [dearest._certificate(stranger, about.subject, about.issuer) for _ in range(3)]
    trust = certificates.Trust(ROOT)
    assert trust.path(leaf, [*alike, inter])[1] == inter
