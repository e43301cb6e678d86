"""Which extension is loaded, and what is said when none can be: copies of the package whose files are altered."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import opensslcmp
from opensslcmp import __version__
from opensslcmp._native import _openssl, loading

EXTENSION = Path(_openssl.__file__)
Importing = Callable[..., str]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="alters ELF files")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of what importing ``_native`` reads."""
    home = tmp_path / "opensslcmp"
    ignore = shutil.ignore_patterns("__pycache__", "server", "client", "cli", "transport", "asn1", "cdef")
    shutil.copytree(Path(opensslcmp.__file__).parent, home, ignore=ignore)
    return home / "_native"


@pytest.fixture
def importing(package: Path, tmp_path: Path) -> Importing:
    """Imports the copy in a child process; the last line of what it says."""

    def run(**environment: str) -> str:
        code = "import opensslcmp._native as native; print(native.__file__, native.IMPLEMENTATION)"
        env = {name: value for name, value in os.environ.items() if name != "OPENSSLCMP_IMPL"}
        paths = os.pathsep.join([str(tmp_path), *sys.path[1:]])
        child = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=env | {"PYTHONPATH": paths} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert (child.returncode == 0) is child.stdout.startswith(str(package)), child.stdout
        return child.stdout.rpartition("\nImportError: ")[2]

    return run


def alter(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert len(old) == len(new)
    assert old in content
    path.unlink()
    path.write_bytes(content.replace(old, new))


def linked(name: str) -> Path:
    """The system's library that the extension is linked with."""
    for line in subprocess.run(["ldd", EXTENSION], capture_output=True, text=True, check=True).stdout.splitlines():
        if line.strip().startswith(name):
            return Path(line.split(" => ")[1].split(" (")[0])
    pytest.skip(f"the extension is not linked with {name}")


def major() -> bytes:
    return linked("libcrypto.so").name.removeprefix("libcrypto.so.")[:1].encode()


def test_the_extension_of_the_system_is_loaded_where_there_is_no_other(importing: Importing) -> None:
    assert importing().endswith(" system\n")


def test_a_libcrypto_without_cmp_is_told(importing: Importing, tmp_path: Path) -> None:
    original = linked("libcrypto.so")
    directory = tmp_path / "without"
    directory.mkdir()
    copy = directory / original.name
    shutil.copy(original.resolve(), copy)
    alter(copy, b"\0OSSL_CMP_CTX_set1_secretValue\0", b"\0XSSL_CMP_CTX_set1_secretValue\0")
    said = importing(LD_LIBRARY_PATH=str(directory))
    assert said.startswith("the OpenSSL that this process has loaded was built without CMP (")
    assert "undefined symbol: OSSL_CMP_CTX_set1_secretValue" in said


def test_another_major_version_than_compiled_for_is_told(importing: Importing, package: Path) -> None:
    alter(package / EXTENSION.name, b"libcrypto.so." + major(), b"libcrypto.so.9")
    said = importing()
    assert said.startswith(
        "the OpenSSL that opensslcmp was compiled for is no longer here (libcrypto.so.9: cannot open"
    )
    assert "pip install --force-reinstall --no-cache-dir --no-binary opensslcmp opensslcmp" in said


def test_a_newer_minor_version_than_this_process_has_is_told(importing: Importing, package: Path) -> None:
    if major() != b"3":
        pytest.skip("its symbols have a version that does not tell the minor one")
    alter(package / EXTENSION.name, b"\0OPENSSL_3.0.0\0", b"\0OPENSSL_3.9.0\0")
    said = importing()
    assert said.startswith("opensslcmp was compiled for a newer OpenSSL than this process has loaded (")


def test_an_error_that_is_not_about_openssl_stays_as_it_is() -> None:
    error = ImportError("libc.so.7: cannot open shared object file")
    assert loading.explain(error) is error


def test_an_installation_without_extension_says_why(importing: Importing, package: Path) -> None:
    (package / EXTENSION.name).unlink()
    assert importing().startswith("opensslcmp is not built in this directory of its sources")
    (package / loading.NOT_BUILT).write_text("It lacks this and that.")
    assert importing() == "opensslcmp was installed without its extension.\nIt lacks this and that.\n"


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """An ``opensslcmp_binary``: this very extension under the other name."""
    home = tmp_path / "opensslcmp_binary"
    home.mkdir()
    (home / "__init__.py").write_text(f'__version__ = "{__version__}"\n')
    shutil.copy(EXTENSION, home)
    return home


@pytest.mark.usefixtures("binary")
def test_the_other_extension_goes_first_and_the_environment_decides(importing: Importing) -> None:
    assert importing().endswith(" binary\n")
    assert importing(OPENSSLCMP_IMPL="binary").endswith(" binary\n")
    assert importing(OPENSSLCMP_IMPL="system").endswith(" system\n")
    assert importing(OPENSSLCMP_IMPL="mine") == "OPENSSLCMP_IMPL is 'mine': it may be system or binary\n"


@pytest.mark.usefixtures("binary")
def test_the_other_extension_needs_none_of_the_systems(importing: Importing, package: Path) -> None:
    (package / EXTENSION.name).unlink()
    assert importing().endswith(" binary\n")


def test_the_other_extension_must_have_our_version(importing: Importing, binary: Path) -> None:
    (binary / "__init__.py").write_text('__version__ = "0.0.1"\n')
    said = importing()
    assert said.startswith(f"this is opensslcmp {__version__}, but opensslcmp-binary 0.0.1: ")
    assert importing(OPENSSLCMP_IMPL="system").endswith(" system\n")


def test_the_other_extension_where_it_is_wanted_and_not_here(importing: Importing) -> None:
    assert importing(OPENSSLCMP_IMPL="binary").startswith("OPENSSLCMP_IMPL is binary, but it is not here: pip install")
