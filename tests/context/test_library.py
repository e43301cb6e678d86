"""Libraries of their own, property queries, and that nothing is fetched elsewhere."""

import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opensslcmp import Context, Session, SharedSecret, Signer
from opensslcmp._native import IMPLEMENTATION, lib
from opensslcmp.asn1 import admit
from opensslcmp.context import protection
from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey, verify_signature
from opensslcmp.context.library import Library, active_providers
from opensslcmp.context.protection import MacProtector, SignatureProtector, verify
from opensslcmp.errors import OpenSSLError, ProtectionError
from opensslcmp.server import CA, Responder, open_responder
from opensslcmp.transport import InProcess
from tests.client.client_peers import TWINS
from tests.context.issuing import INTER, INTER_KEY, ROOT, ROOT_KEY, crl, device, key, message

SECRET = SharedSecret("device", "correct horse")
OPTIONS: list[dict[str, Any]] = [
    {"library": Library(providers=["default", "base"])},
    {"library": Library(private=True)},
    {"library": Library(private=True, properties="provider=default")},
    {"providers": ["default"]},
    {"properties": "provider=default"},
    {"properties": "?fips=yes"},
]


@pytest.fixture(scope="module")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Responder]:
    place = tmp_path_factory.mktemp("library") / "ca"
    ca = CA.create(place)
    ca.add_secret(SECRET.reference, SECRET.secret)
    ca.close()
    with contextlib.closing(open_responder(place)) as responder:
        yield responder


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["ec:P-256", "rsa:2048", "ed25519"])
@TWINS
def test_a_context_with_a_library_of_its_own_does_everything(
    responder: Responder, options: dict[str, Any], kind: str, twin: Callable[..., Session]
) -> None:
    way = InProcess(responder)
    context = Context(credential=SECRET, **options)
    first = twin(context, way).enroll("CN=device", generate=kind)
    assert first.key is not None
    assert first.key.library is context.library
    signer = Signer(first.certificate, first.key, first.chain)
    anchor = first.ca_certificates[-1]
    options = {"library": context.library}
    session = twin(Context(credential=signer, trusted=anchor, certificates_trusted=anchor, **options), way)
    assert session.update(generate=kind).protection.signer is not None
    assert lib.ERR_peek_error() == 0


@pytest.mark.skipif(IMPLEMENTATION == "binary", reason="calls libcrypto by itself, which the wheel hides")
@pytest.mark.parametrize("kind", ["ec:P-384", "rsa:2048", "ed25519"])
def test_nothing_is_fetched_from_the_library_of_the_process(responder: Responder, kind: str) -> None:
    command = [sys.executable, "-m", "tests.context.library_child", kind, "correct horse"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        while length := child.stdout.read(4):
            answer = responder.handle(child.stdout.read(int.from_bytes(length, "big")))
            child.stdin.write(len(answer).to_bytes(4, "big") + answer)
            child.stdin.flush()
        told = child.stderr.read().decode().strip()
        assert told == "done", told


def test_properties_that_nothing_satisfies_fail_at_once_and_say_what_is_missing() -> None:
    for properties in "fips=yes", "provider=nowhere":
        for make in (
            lambda asked=properties: Library(properties=asked, private=True, providers=["default"]),
            lambda asked=properties: Context(
                credential=SECRET, library=Library(properties=asked, providers=["default"])
            ),
        ):
            with pytest.raises(OpenSSLError, match="SHA256") as caught:
                make()
            assert properties in str(caught.value)
            assert lib.ERR_peek_error() == 0
    with pytest.raises(OpenSSLError, match=r"SHA256.*provider=nowhere"):
        Context(credential=SECRET, properties="provider=nowhere")


def test_a_provider_that_is_not_there_is_named() -> None:
    with pytest.raises(OpenSSLError, match="nowhere"):
        Library(providers=["default", "nowhere"])
    assert lib.ERR_peek_error() == 0


def test_a_library_without_the_providers_of_a_key_says_so(tmp_path: Path) -> None:
    with pytest.raises(OpenSSLError, match="lacks SHA256 or HMAC"):
        Library(providers=["base"])
    with pytest.raises(FileNotFoundError):
        Library(config=tmp_path / "none.cnf")
    (tmp_path / "bad.cnf").write_text("openssl_conf = x\n[x]\nproviders = y\n[y]\nnowhere = z\n[z]\nactivate = 1\n")
    with pytest.raises(OpenSSLError):
        Library(config=tmp_path / "bad.cnf", properties="provider=nowhere")
    (tmp_path / "good.cnf").write_text("openssl_conf = x\n[x]\nproviders = y\n[y]\ndefault = z\n[z]\nactivate = 1\n")
    assert Library(config=tmp_path / "good.cnf").providers == ("default",)


def test_arguments_that_contradict_each_other_are_the_callers_mistake(tmp_path: Path) -> None:
    for options in (
        {"providers": ["default"], "config": tmp_path},
        {"providers": ["default"], "private": False},
        {"providers": {"default": {"x\ny": "z"}}},
        {"providers": {"default": {"x": 'a"b'}}},
        {"providers": [""]},
    ):
        with pytest.raises(ValueError, match=r"either|private|configuration|setting"):
            Library(**options)
    with pytest.raises(TypeError, match="several names"):
        Library(providers="default")
    with pytest.raises(ValueError, match="either a library"):
        Context(credential=SECRET, library=Library(), properties="provider=default")


def test_a_private_library_changes_nothing_for_the_process() -> None:
    before = active_providers()
    library = Library(providers=["default", "base"])
    assert set(library.providers) == {"default", "base"}
    assert active_providers() == before
    assert repr(library).startswith("<Library private, providers ")
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(library)


def test_a_key_of_another_library_is_refused_rather_than_mixed_in() -> None:
    one, other = Library(providers=["default"]), Library(providers=["default"])
    ours = PrivateKey.load(key(), library=one)
    assert PrivateKey.load(ours, library=one) is ours
    assert PrivateKey.load(ours) is ours
    for library in other, Library(properties="provider=default"):
        with pytest.raises(ValueError, match="another library"):
            PrivateKey.load(ours, library=library)
    with pytest.raises(ValueError, match="another library"):
        Context(credential=Signer(device(), ours), library=other)


def test_what_one_library_decoded_and_derived_another_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Library(providers=["default"]), Library(providers=["default"])
    ours = PrivateKey.load(key(), library=one)
    signature = ours.sign(b"data")
    for library in one, other, None, one:
        for data, good in ((b"data", True), (b"other", False)):
            with contextlib.nullcontext() if good else pytest.raises(ProtectionError):
                verify_signature(ours.public_key_der, ours.signature_algorithm(), data, signature, library=library)
    monkeypatch.setattr(protection, "_keys", {})
    request = admit(message(MacProtector(SECRET, library=one)))
    assert len(protection._keys) == 1
    for count, library in enumerate((one, other, None), 1):
        verify(request, secrets=lambda reference: SECRET, library=library)
        assert len(protection._keys) == count


def test_paths_crls_and_signatures_of_a_private_library_verify_and_refuse() -> None:
    library = Library(providers=["default"])
    leaf = device()
    signer = SignatureProtector(Signer(leaf, key(), [INTER]), library=library)
    request = admit(message(signer))
    lists = [crl("intermediate", INTER_KEY), crl("root", ROOT_KEY)]
    assert len(verify(request, trust=Trust(ROOT, crls=lists, library=library), library=library).chain) == 3
    lists[0] = crl("intermediate", INTER_KEY, leaf)
    with pytest.raises(ProtectionError, match="revoked"):
        verify(request, trust=Trust(ROOT, crls=lists, library=library), library=library)
    with pytest.raises(ProtectionError, match="not trusted"):
        verify(request, trust=Trust(device("rsa"), library=library), library=library)


def test_random_bytes_of_a_library_differ() -> None:
    library = Library(providers=["default"])
    assert len({library.random(16) for _ in range(100)}) == 100
    assert library.random(0) == b""


def test_libraries_come_and_go_in_many_threads() -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                library = Library(providers=["default"], properties="provider=default")
                ours = PrivateKey.generate("ec:P-256", library=library)
                signature = ours.sign(b"data")
                verify_signature(ours.public_key_der, ours.signature_algorithm(), b"data", signature, library=library)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
