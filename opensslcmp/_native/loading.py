"""Which extension is loaded, and why it cannot be.

There are two: the one that ``pip install opensslcmp`` compiles against the system's OpenSSL, and that of the wheel
``opensslcmp-binary``, which holds an OpenSSL of its own. The second is taken where it is installed; the environment variable
``OPENSSLCMP_IMPL`` (``system`` or ``binary``) decides otherwise.
"""

import importlib
import os
import re
from pathlib import Path
from typing import Any

from opensslcmp._version import __version__

__all__ = ["NOT_BUILT", "explain", "load", "refuse_other", "refuse_subinterpreters"]

SYSTEM, BINARY = "opensslcmp._native._openssl", "opensslcmp_binary"
NOT_BUILT = "not_built.txt"
"""Beside this file: why the installation has no extension of the system's OpenSSL (build_ffi.py)."""


def refuse_subinterpreters() -> None:
    """Callbacks from C find the interpreter that was first to import us, so that must be the only one.

    Raises:
        ImportError: the current interpreter is not the main one, number 0.
    """
    for name in ("_interpreters", "_xxsubinterpreters"):  # 3.13 and newer, before
        try:
            current = importlib.import_module(name).get_current()
        except ImportError:
            continue
        if (current[0] if isinstance(current, tuple) else current) != 0:
            raise ImportError("opensslcmp works in the main interpreter only, not in a subinterpreter")
        return


def refuse_other(compiled: int, loaded: int) -> None:
    """What was compiled for one minor version needs its functions, and those of its major version.

    Raises:
        ImportError: the ``loaded`` OpenSSL's version number has another major or an older minor version than the ``compiled``
            one's, or is older than 3.0.9.
    """
    if loaded >> 28 != compiled >> 28 or loaded >> 20 < compiled >> 20:
        raise ImportError(
            f"opensslcmp was compiled for OpenSSL {compiled >> 28}.{compiled >> 20 & 0xFF}, but this process has loaded"
            f" {loaded >> 28}.{loaded >> 20 & 0xFF}: {_REBUILD}"
        )
    if loaded < 0x30000090:
        raise ImportError(
            f"opensslcmp needs OpenSSL 3.0.9 or newer, but this process has loaded 3.0.{loaded >> 4 & 0xFFFF}"
        )


_REBUILD = (
    "build it against the OpenSSL that Python's ssl module uses"
    " (pip install --force-reinstall --no-cache-dir --no-binary opensslcmp opensslcmp)"
)


def explain(error: ImportError) -> ImportError:
    """The dynamic linker's words in ours; the same error where they are not about OpenSSL."""
    words = str(error)
    if re.search(r"OSSL_(CMP|CRMF)_\w+", words):
        return ImportError(f"the OpenSSL that this process has loaded was built without CMP ({words})")
    if re.search(r"lib(crypto|ssl)\S*: cannot open|Library not loaded: \S*lib(crypto|ssl)", words):
        return ImportError(f"the OpenSSL that opensslcmp was compiled for is no longer here ({words}): {_REBUILD}")
    if "OPENSSL_" in words or "undefined symbol" in words:
        return ImportError(
            f"opensslcmp was compiled for a newer OpenSSL than this process has loaded ({words}): {_REBUILD}"
        )
    return error


def load() -> tuple[Any, Any, str]:
    """``ffi``, ``lib`` and which of the two they are, ``"system"`` or ``"binary"``.

    Raises:
        ImportError: there is none that works; says why and what to do.
    """
    wanted = os.environ.get("OPENSSLCMP_IMPL", "")
    if wanted not in {"", "system", "binary"}:
        raise ImportError(f"OPENSSLCMP_IMPL is {wanted!r}: it may be system or binary")
    module, used = None, "binary"
    if wanted != "system":
        module = _binary(needed=wanted == "binary")
    if module is None:
        module, used = _system(), "system"
    refuse_other(module.lib.OPENSSL_VERSION_NUMBER, module.lib.OpenSSL_version_num())
    return module.ffi, module.lib, used


def _binary(needed: bool) -> Any:
    try:
        package = importlib.import_module(BINARY)
    except ModuleNotFoundError as error:
        if error.name != BINARY:
            raise
        if needed:
            raise ImportError(
                "OPENSSLCMP_IMPL is binary, but it is not here: pip install 'opensslcmp[binary]'"
            ) from None
        return None
    if package.__version__ != __version__:
        raise ImportError(
            f"this is opensslcmp {__version__}, but opensslcmp-binary {package.__version__}: they are of use in the same version"
            f" only (pip install opensslcmp=={__version__} opensslcmp-binary=={__version__})"
        )
    return importlib.import_module(f"{BINARY}._openssl")


def _system() -> Any:
    try:
        return importlib.import_module(SYSTEM)
    except ModuleNotFoundError as error:
        reason = Path(__file__).with_name(NOT_BUILT)
        if reason.exists():
            raise ImportError(f"opensslcmp was installed without its extension.\n{reason.read_text()}") from None
        raise ImportError(
            "opensslcmp is not built in this directory of its sources: run Python elsewhere, or pip install -e . here"
        ) from error
    except ImportError as error:
        told = explain(error)
        if told is error:
            raise
        raise told from error
