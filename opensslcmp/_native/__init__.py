"""``ffi``, ``lib`` and the four helpers that everything native goes through: memory, queue, callbacks, levels.

Importing it fails with an ``ImportError`` that says why where the package cannot work: in a subinterpreter, and in a
process that has loaded an older libcrypto than the one compiled against. Only one ``libcrypto.so.3`` can live in a
process, and the standard library's ``ssl`` may have chosen it before us.
"""

import importlib


def refuse_subinterpreters(current: int) -> None:
    """Callbacks from C find the interpreter that was first to import us, so that must be the only one.

    Raises:
        ImportError: ``current`` is not the main interpreter, number 0.
    """
    if current != 0:
        raise ImportError("opensslcmp works in the main interpreter only, not in a subinterpreter")


def refuse_older(compiled: int, loaded: int) -> None:
    """What was compiled for one minor version needs its functions.

    Raises:
        ImportError: the ``loaded`` OpenSSL's version number has an older minor version than the ``compiled`` one's.
    """
    if loaded >> 20 < compiled >> 20:
        raise ImportError(
            f"opensslcmp was compiled for OpenSSL {compiled >> 28}.{compiled >> 20 & 0xFF}, but this process has loaded"
            f" {loaded >> 28}.{loaded >> 20 & 0xFF}: build it against the OpenSSL that Python's ssl module uses"
        )


def _interpreter() -> int:
    for name in ("_interpreters", "_xxsubinterpreters"):  # 3.13 and newer, before
        try:
            current = importlib.import_module(name).get_current()
        except ImportError:
            continue
        return int(current[0] if isinstance(current, tuple) else current)
    return 0


refuse_subinterpreters(_interpreter())

try:
    from opensslcmp._native._openssl import ffi, lib
except ImportError as error:
    # The dynamic linker's words: "version `OPENSSL_3.5.0' not found".
    if isinstance(error, ModuleNotFoundError):
        raise ImportError(
            "opensslcmp is not built in this directory of its sources: run Python elsewhere, or pip install -e . here"
        ) from error
    if "OPENSSL_" not in str(error) and "undefined symbol" not in str(error):
        raise
    raise ImportError(
        f"opensslcmp was compiled for a newer OpenSSL than this process has loaded ({error}): build it against the"
        " OpenSSL that Python's ssl module uses"
    ) from error

refuse_older(lib.OPENSSL_VERSION_NUMBER, lib.OpenSSL_version_num())

__all__ = ["ffi", "lib", "refuse_older", "refuse_subinterpreters"]
