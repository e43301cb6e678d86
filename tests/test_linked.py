"""What the package says about the OpenSSL it runs on."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from opensslcmp._native import levels, lib, loading
from opensslcmp.errors import Unsupported
from opensslcmp.linked import EXAMINED, KNOWN, SINCE, features, vulnerabilities


def affected(*loaded: int) -> dict[str, bool | None]:
    return {one.id: one.affected for one in vulnerabilities((loaded[0], loaded[1], loaded[2]))}


def test_the_report_is_json_and_names_all_versions() -> None:
    report = json.loads(features().to_json())
    for part in (
        "opensslcmp",
        "extension",
        "compiled",
        "loaded",
        "level",
        "python",
        "implementation",
        "cffi",
        "cryptography",
        "note",
    ):
        assert report[part]
    assert report["loaded"].startswith("OpenSSL ")
    assert features() is features()


def test_the_level_decides_what_there_is() -> None:
    report = features()
    assert report.level.replace(".", "") == str(lib.OPENSSLCMP_LEVEL)
    assert report.has == {name: float(since) <= float(report.level) for name, since in SINCE.items()}


def test_a_level_that_is_not_there_is_unsupported() -> None:
    assert levels.has("3.0")
    levels.require("3.0", "this")
    with pytest.raises(Unsupported, match=r"that needs OpenSSL 9\.9 or newer"):
        levels.require("9.9", "that")


def test_an_old_version_has_all_the_holes_of_its_line() -> None:
    found = affected(3, 0, 19)
    assert found["CVE-2026-63076"] is True
    assert found["CVE-2026-63073"] is False
    assert found["CVE-2026-42769"] is False
    assert found["CVE-2025-9232"] is False
    assert affected(3, 0, 16)["CVE-2025-9232"] is True
    assert affected(3, 0, 15)["CVE-2025-9232"] is False


def test_a_fixed_version_has_none_of_them_but_the_one_nobody_fixed() -> None:
    assert [name for name, hole in affected(4, 0, 3).items() if hole] == ["caPubs poisoning"]
    assert affected(3, 5, 7)["CVE-2026-63073"] is True
    assert affected(3, 5, 7)["CVE-2026-42767"] is False
    assert affected(3, 5, 6)["CVE-2026-42767"] is True
    assert affected(3, 2, 0)["CVE-2026-63076"] is True


@pytest.mark.parametrize("loaded", [(3, 5, 10), (3, 6, 4), (3, 0, 23), (4, 1, 0)])
def test_a_version_newer_than_the_table_is_not_judged(loaded: tuple[int, int, int]) -> None:
    assert affected(*loaded)["caPubs poisoning"] is None


def test_holes_of_cms_count_from_where_cmp_uses_it() -> None:
    assert affected(3, 0, 19)["CVE-2026-63072"] is False
    assert affected(3, 5, 6)["CVE-2026-34182"] is affected(3, 5, 6)["CVE-2026-42768"] is True
    assert affected(3, 5, 7)["CVE-2026-63072"] is True
    assert affected(3, 5, 8)["CVE-2026-63072"] is affected(3, 5, 8)["CVE-2026-42768"] is False
    assert affected(3, 0, 21)["CVE-2026-63076"] is True
    assert affected(3, 0, 22)["CVE-2026-63076"] is False


def test_the_report_tells_providers_and_what_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "default" in features().providers
    for name in "fips.so", "pkcs11.so", "README":
        (tmp_path / name).touch()
    monkeypatch.setenv("OPENSSL_MODULES", str(tmp_path))
    found = features.__wrapped__()
    assert (found.modules, found.pkcs11, found.fips) == (("fips", "pkcs11"), True, False)
    monkeypatch.setenv("OPENSSL_MODULES", str(tmp_path / "none"))
    assert features.__wrapped__().modules == ()


def test_every_hole_says_whether_and_how_it_is_covered() -> None:
    for one in vulnerabilities((3, 0, 0)):
        assert one.text
        assert one.how
        assert isinstance(one.covered, bool)
    assert {line for known in KNOWN for line in known.fixed} >= set(EXAMINED)


@pytest.mark.parametrize(
    ("compiled", "loaded", "said"),
    [
        (0x30500010, 0x30000130, r"compiled for OpenSSL 3\.5, but this process has loaded 3\.0: build it against"),
        (0x30500010, 0x40000030, r"compiled for OpenSSL 3\.5, but this process has loaded 4\.0: build it against"),
        (0x40000030, 0x30600050, r"compiled for OpenSSL 4\.0, but this process has loaded 3\.6: build it against"),
        (0x30000090, 0x30000080, r"needs OpenSSL 3\.0\.9 or newer, but this process has loaded 3\.0\.8"),
    ],
)
def test_another_libcrypto_than_compiled_for_is_an_import_error(compiled: int, loaded: int, said: str) -> None:
    with pytest.raises(ImportError, match=said):
        loading.refuse_other(compiled, loaded)


def test_a_newer_minor_version_than_compiled_for_will_do() -> None:
    loading.refuse_other(0x30000130, 0x30000090)
    loading.refuse_other(0x30000130, 0x30500010)


def test_a_subinterpreter_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    loading.refuse_subinterpreters()
    monkeypatch.setattr("importlib.import_module", lambda _: SimpleNamespace(get_current=lambda: (1, 0)))
    with pytest.raises(ImportError, match="main interpreter only"):
        loading.refuse_subinterpreters()


CHILD = """
try:
    import _interpreters as interpreters
    one = interpreters.create("legacy")
    failure = interpreters.run_string(one, "import opensslcmp._native")
    assert failure is not None
    print(failure.formatted)
except ModuleNotFoundError:
    import _xxsubinterpreters as interpreters
    one = interpreters.create(isolated=False)
    try:
        interpreters.run_string(one, "import opensslcmp._native")
    except interpreters.RunFailedError as failure:
        print(failure)
"""


def test_importing_in_a_subinterpreter_says_why_it_fails() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=60)
    assert "ImportError: opensslcmp works in the main interpreter only" in child.stdout.replace("<class '", "").replace(
        "'>", ""
    )
