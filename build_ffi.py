"""Compile ``opensslcmp._native._openssl``: cffi (API mode) over the OpenSSL of this machine.

``cdef/*.h`` says what Python sees, ``shim.h`` what each OpenSSL version lacks, ``crossings.h`` what is done in one call
because each call into C may have to wait for the GIL. They are read by path: the package itself is never imported here.

``pip install .`` and ``python -m build`` come through ``build_ext``; ``python build_ffi.py`` builds in place for work
on the sources. ``OPENSSLCMP_INCLUDE`` and ``OPENSSLCMP_LIB`` name the directories of an OpenSSL that is not the
system's; ``.ci/binary`` builds the same extension with one that is linked in.

Where compiler or headers are missing the package installs all the same, for ``opensslcmp[binary]`` brings an extension;
importing it without that says what was missing. With ``OPENSSLCMP_IMPL=system`` the build fails instead, with ``binary``
nothing is looked for. An OpenSSL that will not do always fails it.
"""

import os
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

from cffi import FFI
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext as _build_ext
from setuptools.errors import BaseError

HERE = Path(__file__).resolve().parent
NATIVE = HERE / "opensslcmp" / "_native"
MODULE = "opensslcmp._native._openssl"
NOT_BUILT = "not_built.txt"  # of opensslcmp/_native/loading.py
MISSING = """\
opensslcmp needs a C compiler, Python's headers and OpenSSL's (3.0.9 or newer), or a wheel that has OpenSSL in it:
    Debian, Ubuntu:  apt install gcc python3-dev libssl-dev
    Fedora, RHEL:    dnf install gcc python3-devel openssl-devel
    macOS:           xcode-select --install; brew install openssl@3
                     export OPENSSLCMP_INCLUDE=$(brew --prefix openssl@3)/include
                     export OPENSSLCMP_LIB=$(brew --prefix openssl@3)/lib
    then:            pip install --force-reinstall --no-cache-dir opensslcmp
    without any:     pip install 'opensslcmp[binary]'
What failed: """

PROBE = """
#include <openssl/opensslv.h>
#if OPENSSL_VERSION_NUMBER < 0x30000090L
#error opensslcmp needs OpenSSL 3.0.9 or newer (OPENSSLCMP_IMPL=binary pip install 'opensslcmp[binary]' does without)
#endif
#include <openssl/opensslconf.h>
#if defined(OPENSSL_NO_CMP) || defined(OPENSSL_NO_CRMF)
#error this OpenSSL was built without CMP (OPENSSLCMP_IMPL=binary pip install 'opensslcmp[binary]' does without it)
#endif
#include <Python.h>
"""


def emit(target: Path, module: str = MODULE) -> None:
    """Write the C source of the extension ``module`` to ``target``."""
    ffi = FFI()
    for part in sorted((NATIVE / "cdef").glob("*.h")):
        ffi.cdef(part.read_text())
    ffi.set_source(module, '#include "shim.h"\n#include "crossings.h"\n', py_limited_api=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    ffi.emit_c_code(str(target))


class Missing(BaseError):
    """There is nothing to build with."""


class build_ext(_build_ext):  # noqa: N801 -- the name that setuptools looks up
    """Emit the C source, look for what compiling it needs, compile it."""

    def get_source_files(self) -> list[str]:
        """What a source distribution takes along: not the C file, which is made from these."""
        return [path.relative_to(HERE).as_posix() for path in [Path(__file__).resolve(), *NATIVE.rglob("*.h")]]

    def build_extension(self, ext: Extension) -> None:
        """Build one extension; there is one."""
        reason = Path(self.build_lib) / "opensslcmp" / "_native" / NOT_BUILT
        built = Path(self.get_ext_fullpath(ext.name))
        for old in reason, built:  # of a build before this one
            old.unlink(missing_ok=True)
        target = Path(self.build_temp) / "_openssl.c"
        emit(target, ext.name)
        ext.sources, ext.depends = [str(target)], self.get_source_files()
        ext.define_macros.append(("Py_LIMITED_API", "0x030b0000"))
        ext.include_dirs.append(os.path.relpath(NATIVE))
        if directory := os.environ.get("OPENSSLCMP_INCLUDE"):
            ext.include_dirs.append(directory)
        if directory := os.environ.get("OPENSSLCMP_LIB"):
            ext.library_dirs.append(directory)
            if ext.name == MODULE:
                ext.runtime_library_dirs.append(directory)
        wanted = os.environ.get("OPENSSLCMP_IMPL")
        try:
            if wanted == "binary" and ext.name == MODULE:
                raise Missing("OPENSSLCMP_IMPL was binary when it was installed: pip install 'opensslcmp[binary]'")
            self._probe(ext, target.with_name("probe.c"))
        except Missing as missing:
            if wanted == "system" or ext.name != MODULE:
                raise
            self.warn(str(missing))
            ext.optional = True
            reason.parent.mkdir(parents=True, exist_ok=True)
            reason.write_text(str(missing))
            return
        super().build_extension(ext)

    def _probe(self, ext: Extension, source: Path) -> None:
        source.write_text(PROBE)
        command = [*self.compiler.compiler, "-fsyntax-only", f"-I{sysconfig.get_path('include')}"]
        command += [f"-I{directory}" for directory in ext.include_dirs]
        try:
            subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
        except OSError as error:
            raise Missing(f"{MISSING}{error.filename}: {error.strerror}") from None
        except subprocess.CalledProcessError as error:
            kind = BaseError if "#error" in error.stderr else Missing
            raise kind(f"{MISSING}{error.stderr.strip()}") from None


def main() -> None:
    """Build in place."""
    os.chdir(HERE)
    # Setuptools calls two tables of our pyproject.toml experimental, each time.
    warnings.filterwarnings("ignore", message=".*experimental")
    sys.argv[1:] = ["build_ext", "--inplace"]
    distribution = Distribution()
    distribution.parse_config_files()
    distribution.parse_command_line()  # type: ignore[no-untyped-call]
    distribution.run_commands()


if __name__ == "__main__":
    main()
