"""Sources to sdist to wheel to a clean environment, and what is said when something to build with is missing."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import build_ffi
from opensslcmp import __version__

ROOT = Path(build_ffi.__file__).parent
SOURCES = ["pyproject.toml", "build_ffi.py", "README.md", "LICENSE", "CHANGELOG.md", "opensslcmp"]
BUILT = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")

USE = """
import ssl, asyncio, sys
import opensslcmp
from opensslcmp._native import _openssl
from opensslcmp.context.client import ClientContext
from opensslcmp.context.server import ServerContext
from opensslcmp.enums import BodyType
from opensslcmp.errors import Rejected
from opensslcmp.linked import features
assert opensslcmp.__file__.startswith(sys.prefix), opensslcmp.__file__
assert _openssl.__file__.startswith(sys.prefix), _openssl.__file__
server = ServerContext()
client = ClientContext(server.process)
for context in (client, server.context):
    context.reference, context.secret = b"reference", b"secret"
client.add_info_request(bytes.fromhex("300a06082b06010505070401"))
try:
    client.request_info()
except Rejected:
    print(features().level)
"""


def run(*command: object, cwd: Path, check: bool = True, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stdout
    return done


def build(kind: str, sources: Path, target: Path, check: bool = True, **environment: str) -> str:
    """Build in a copy, and return what is said."""
    copy = Path(tempfile.mkdtemp(dir=target.parent)) / "copy"
    shutil.copytree(sources, copy)
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", target, copy]
    return run(*command, cwd=copy, check=check, **environment).stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the repository holds, with nothing built."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=BUILT)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def sdist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    target = tmp_path_factory.mktemp("sdist")
    build("sdist", sources, target)
    (archive,) = target.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        if hasattr(tarfile, "data_filter"):
            opened.extractall(target, filter="data")
        else:  # Debian 12's Python 3.11.2
            opened.extractall(target)
    (unpacked,) = (path for path in target.iterdir() if path.is_dir())
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source distribution."""
    target = tmp_path_factory.mktemp("wheel")
    said = build("wheel", sdist, target)
    warned = [line for line in said.splitlines() if "arning:" in line or "not found" in line]
    assert warned == []
    (made,) = target.glob("*.whl")
    return made


def test_the_sdist_holds_all_that_a_build_reads_and_nothing_built(sdist: Path, sources: Path) -> None:
    needed = {"build_ffi.py", "pyproject.toml", "LICENSE", "PKG-INFO"}
    needed |= {path.relative_to(sources).as_posix() for path in (sources / "opensslcmp").rglob("*") if path.is_file()}
    there = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    assert needed - there == set()
    assert [name for name in there if name.endswith((".so", ".c", ".o"))] == []


def test_the_wheel_is_for_every_python_from_3_11_and_holds_no_sources(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "opensslcmp/_native/_openssl.abi3.so" in names
    assert {"opensslcmp/py.typed", "opensslcmp/_native/_openssl.pyi"} <= set(names)
    assert [name for name in names if name.endswith((".h", ".c")) or "build_ffi" in name or "tests" in name] == []


def test_the_wheel_works_in_a_clean_environment_after_ssl_and_asyncio(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    site = next(home.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    # The dependencies come from here; lines of .pth files in that directory, editable installs among them, do not.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('platlib')}\n")
    done = run(python, "-I", "-c", USE, cwd=tmp_path)
    assert done.stdout.strip() in {"3.0", "3.2", "3.3", "3.4", "3.5"}


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("/nonexistent/cc", "What failed: /nonexistent/cc: No such file or directory"),
        ("cc -nostdinc", "openssl/opensslv.h"),
    ],
)
def test_what_is_missing_is_said_by_the_build_or_by_the_import(
    sdist: Path, tmp_path: Path, compiler: str, said: str
) -> None:
    refused = build("wheel", sdist, tmp_path / "none", check=False, CC=compiler, OPENSSLCMP_IMPL="system")
    assert not (tmp_path / "none").exists() or not list((tmp_path / "none").iterdir())
    build("wheel", sdist, tmp_path / "without", CC=compiler)
    imported = import_without_extension(*(tmp_path / "without").glob("*.whl"))
    for text in refused, imported:
        assert "apt install gcc python3-dev libssl-dev" in text
        assert "pip install 'opensslcmp[binary]'" in text
        assert said in text


def test_the_extra_binary_is_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["binary"] == [f"opensslcmp-binary=={__version__}"]


def test_the_extension_is_left_out_where_the_other_one_is_wanted(sdist: Path, tmp_path: Path) -> None:
    build("wheel", sdist, tmp_path / "out", OPENSSLCMP_IMPL="binary")
    imported = import_without_extension(*(tmp_path / "out").glob("*.whl"))
    assert "OPENSSLCMP_IMPL was binary when it was installed: pip install 'opensslcmp[binary]'" in imported


def import_without_extension(wheel: Path) -> str:
    """What importing what the wheel holds says."""
    site = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as opened:
        assert [name for name in opened.namelist() if name.endswith(".so")] == []
        opened.extractall(site)
    code = "import sys; sys.path.insert(0, '.'); import opensslcmp; opensslcmp.Session"
    done = run(sys.executable, "-I", "-c", code, cwd=site, check=False)
    return done.stdout.partition("ImportError: opensslcmp was installed without its extension.")[2]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("#define OPENSSL_VERSION_NUMBER 0x30000080L", "needs OpenSSL 3.0.9 or newer"),
        ("#define OPENSSL_VERSION_NUMBER 0x30000090L\n#define OPENSSL_NO_CMP", "built without CMP"),
    ],
)
def test_headers_of_an_openssl_that_will_not_do_are_refused(
    sdist: Path, tmp_path: Path, header: str, said: str
) -> None:
    fake = tmp_path / "include" / "openssl"
    fake.mkdir(parents=True)
    (fake / "opensslv.h").write_text(header)
    (fake / "opensslconf.h").write_text("")
    output = build("wheel", sdist, tmp_path / "out", check=False, OPENSSLCMP_INCLUDE=str(fake.parent))
    assert said in output
    assert "OPENSSLCMP_IMPL=binary" in output
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
