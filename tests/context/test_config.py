"""Configuration files, verification parameters, names and providers, as libcrypto reads them."""

from pathlib import Path

import pytest
from cryptography import x509

from opensslcmp.context.config import Config, default_config_path
from opensslcmp.context.names import is_object, make_name, object_identifier
from opensslcmp.context.providers import load_provider, seed_from, write_seed
from opensslcmp.context.verification import FLAGS, VerifyParameters
from opensslcmp.errors import OpenSSLError


def write(directory: Path, text: str) -> Path:
    place = directory / "openssl.cnf"
    place.write_text(text)
    return place


def test_a_section_gives_its_values_and_the_default_section_the_rest(tmp_path: Path) -> None:
    config = Config(write(tmp_path, "a = 1\nb = 2\n[one]\na = $b-\\$x\n[two]\nc = ${one::a}"))
    assert (config.get("one", "a"), config.get("one", "b"), config.get("two", "c")) == ("2-$x", "2", "2-$x")
    assert config.get("one", "z") is None
    assert config.get("", "a") == "1"
    assert "one" in config
    assert "three" not in config


def test_a_broken_file_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(OpenSSLError, match=r"line 2"):
        Config(write(tmp_path, "[one]\nnonsense\n"))
    with pytest.raises(OpenSSLError, match="cannot be read"):
        Config(tmp_path / "not-there")


def test_the_default_file_is_openssls_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSSL_CONF", "/some/where.cnf")
    assert default_config_path() == "/some/where.cnf"
    monkeypatch.delenv("OPENSSL_CONF")
    assert default_config_path().endswith("openssl.cnf")


def test_extensions_are_made_of_a_section(tmp_path: Path) -> None:
    config = Config(write(tmp_path, "[x]\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth"))
    assert config.extensions("x").startswith(b"\x30")
    for section in ("nothing", "x\x01"):
        with pytest.raises(OpenSSLError, match="does not describe"):
            config.extensions(section)
    with pytest.raises(OpenSSLError):
        Config(write(tmp_path, "[x]\nsubjectKeyIdentifier=hash")).extensions("x")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"flags": ("nonsense",)}, "flag"),
        ({"policies": ("nonsense",)}, "policy"),
        ({"purpose": "nonsense"}, "purpose"),
        ({"name": "nonsense"}, "set of"),
        ({"ip": "nonsense"}, "IP address"),
        ({"host": "a\x00b"}, "host name"),
        ({"email": "a\x00b"}, "e-mail"),
    ],
)
def test_parameters_that_openssl_does_not_know_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VerifyParameters(**given)  # type: ignore[arg-type]


def test_parameters_are_taken_over(tmp_path: Path) -> None:
    every = VerifyParameters(
        flags=tuple(FLAGS), policies=("1.2.3",), purpose="sslserver", name="ssl_client", depth=3, auth_level=2, at=1,
        host="a.example", email="a@b.example", ip="192.0.2.1",
    )  # fmt: skip
    assert every.native()
    assert every.for_messages() == VerifyParameters(
        flags=tuple(FLAGS), policies=("1.2.3",), purpose="sslserver", name="ssl_client", depth=3, auth_level=2, at=1
    )
    assert every.for_new_certificate().at is None


def test_names_have_the_string_types_of_their_attributes() -> None:
    der = make_name([("C", "DE", False), ("O", "Ä", False), ("emailAddress", "a@b", False), ("CN", "x", True)])
    name = x509.Name.from_bytes(der)
    assert [[attribute.value for attribute in rdn] for rdn in name.rdns[:2]] == [["DE"], ["Ä"]]
    assert {attribute.value for attribute in name.rdns[2]} == {"a@b", "x"}
    assert b"\x13\x02DE" in der
    assert b"\x0c\x02" + "Ä".encode() in der
    assert b"\x16\x03a@b" in der
    with pytest.raises(OpenSSLError):
        make_name([("C", "Germany", False)])
    with pytest.raises(ValueError, match="nonsense"):
        make_name([("nonsense", "x", False)])


def test_objects_are_known_by_name_and_number() -> None:
    assert object_identifier("CN") == object_identifier("commonName") == object_identifier("2.5.4.3") == "2.5.4.3"
    assert object_identifier("1.2.3.4.5.6") == "1.2.3.4.5.6"
    assert is_object("id-kp")
    assert not is_object("nonsense")


def test_seeds_are_read_and_written(tmp_path: Path) -> None:
    write_seed(str(tmp_path / "seed"))
    seed_from(str(tmp_path / "seed"))
    for use in (seed_from, write_seed):
        with pytest.raises(OpenSSLError, match="cannot be used"):
            use(str(tmp_path / "no" / "seed"))


def test_a_provider_that_is_not_there_is_refused() -> None:
    load_provider("default")
    with pytest.raises(OpenSSLError, match="nonsense"):
        load_provider("nonsense")
