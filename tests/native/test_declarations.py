"""The declarations say what the headers say that we were built from, and nothing public is missing."""

import os
import re
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import cffi
import pytest

from opensslcmp import _native
from opensslcmp._native import _openssl, ffi, lib

NATIVE = Path(_native.__file__).parent
HEADERS = ["cmp.h", "cmp_util.h", "crmf.h", "http.h"]
DECLARED = "\n".join(path.read_text() for path in sorted((NATIVE / "cdef").glob("*.h")))
NOT_FOR_US = {"ERR_load_", "OSSL_CMP_severity", "OSSL_STACK_OF", "sk_"}


@cache
def compiled(*options: str) -> str:
    """What the compiler's preprocessor makes of the headers."""
    source = "#define OPENSSL_SUPPRESS_DEPRECATED\n" + "".join(f"#include <openssl/{name}>\n" for name in HEADERS)
    include = [f"-I{path}" for path in [os.environ.get("OPENSSLCMP_INCLUDE")] if path]
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    command = [*compiler, "-E", *options, *include, "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


@cache
def functions() -> dict[str, str]:
    """Every function that the four headers declare, with its declaration on one line."""
    found = {}
    ours = False
    kept = []
    for line in compiled().splitlines():
        if marker := re.match(r'# \d+ "([^"]*)"', line):
            ours = Path(marker[1]).name in HEADERS and Path(marker[1]).parent.name == "openssl"
        elif ours:
            kept.append(line)
    text = re.sub(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)", " ", "\n".join(kept))
    text = re.sub(r"static\s+(?:ossl_)?(?:__)?inline[^{;]*\{[^}]*\}", " ", text)
    for statement in re.sub(r"\s+", " ", text).split(";"):
        declaration = statement.strip().removeprefix("extern ")
        match = re.fullmatch(r"(?!typedef|struct \w+ \{|static)[\w\s*]+?\b(\w+) ?\((?!\*).*\)", declaration)
        if match and not any(match[1].startswith(prefix) for prefix in NOT_FOR_US):
            found[match[1]] = declaration
    return found


def test_the_headers_are_read() -> None:
    assert len(functions()) > 200
    assert {"OSSL_CMP_CTX_new", "OSSL_CRMF_MSG_dup", "OSSL_HTTP_get", "d2i_OSSL_CMP_PKISI"} <= set(functions())


def test_every_public_function_is_declared() -> None:
    assert [name for name in functions() if not hasattr(lib, name)] == []


def test_every_declaration_agrees_with_the_headers() -> None:
    ours: Any
    theirs: Any
    ours, theirs = cffi.FFI(), cffi.FFI()
    for one in (ours, theirs):
        one.cdef(DECLARED)
    wrong = []
    for name, declaration in functions().items():
        theirs.cdef(f"{declaration};", override=True)
        said = [str(one._parser._declarations[f"function {name}"][0]) for one in (ours, theirs)]
        if said[0] != said[1]:
            wrong.append((name, *said))
    assert wrong == []


@pytest.mark.parametrize("name", HEADERS)
def test_every_constant_is_declared_with_its_value(name: str) -> None:
    defined = dict(re.findall(r"#define (OSSL_\w+) (.+)", compiled("-dD")))
    text = header(name)
    missing = []
    for constant in re.findall(r"^#\s*define (OSSL_\w+)[ \t]+\S", text, re.MULTILINE):
        value = defined[constant]
        if (
            '"' in value
            or (value.startswith("OSSL_") and not hasattr(lib, value))
            or callable(getattr(lib, value, None))
        ):
            continue
        if re.search(r"_(NAME|PREFIX|PORT)\b", constant) or "sk_" in value:
            continue
        if not hasattr(lib, constant):
            missing.append(constant)
    assert missing == []


def header(name: str) -> str:
    """The text of a header as the compiler finds it."""
    (path,) = set(re.findall(rf'# \d+ "([^"]*/openssl/{name})"', compiled()))
    return Path(path).read_text()


def test_a_function_that_this_openssl_lacks_fails_the_ordinary_way() -> None:
    lacking = {"OSSL_CMP_get1_crlUpdate": 34, "OSSL_CMP_ATAVS_new": 34, "OSSL_CRMF_ENCRYPTEDKEY_new": 35}
    for name, level in lacking.items():
        if level <= lib.OPENSSLCMP_LEVEL:
            continue
        arguments = [ffi.NULL] * len(ffi.typeof(ffi.addressof(lib, name)).args)
        assert not getattr(lib, name)(*arguments)
        assert b"unsupported" in ffi.string(lib.ERR_reason_error_string(lib.ERR_peek_error()))
        lib.ERR_clear_error()


def test_what_returns_nothing_still_says_that_it_is_unsupported() -> None:
    if lib.OPENSSLCMP_LEVEL < 34:
        lib.OSSL_CMP_CRLSTATUS_free(ffi.NULL)
        assert lib.ERR_peek_error() != 0
        lib.ERR_clear_error()


def test_the_extension_is_built_for_the_limited_api() -> None:
    assert ".abi3." in _openssl.__file__
