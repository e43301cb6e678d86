"""Build the wheel ``opensslcmp-binary``: opensslcmp's extension with a static OpenSSL in it, from opensslcmp's sources.

``.ci/wheel`` calls it. The libraries and headers are those that ``.ci/openssl-static`` left in ``build/openssl-static``.
"""

import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OPENSSL = ROOT / "build" / "openssl-static"

sys.path.insert(0, str(ROOT))
import build_ffi  # noqa: E402

if not (OPENSSL / "lib" / "libcrypto.a").exists():
    raise SystemExit(f"{OPENSSL} holds no static OpenSSL: .ci/openssl-static SOURCE {OPENSSL}")
shutil.copy(ROOT / "opensslcmp" / "_version.py", HERE / "opensslcmp_binary")
shutil.copy(ROOT / "LICENSE", HERE)
shutil.copy(OPENSSL / "LICENSE.txt", HERE / "LICENSE.OpenSSL")

version: dict[str, str] = {}
exec((ROOT / "opensslcmp" / "_version.py").read_text(), version)

# Nothing of this OpenSSL is to be seen by, or to be taken from, other libraries of the process.
HIDDEN = ["-Wl,-hidden-lssl", "-Wl,-hidden-lcrypto"] if sys.platform == "darwin" else ["-Wl,--exclude-libs,ALL"]

setup(
    version=version["__version__"],
    packages=["opensslcmp_binary"],
    ext_modules=[
        Extension(
            "opensslcmp_binary._openssl",
            [],
            include_dirs=[str(OPENSSL / "include")],
            library_dirs=[str(OPENSSL / "lib")],
            libraries=[] if sys.platform == "darwin" else ["ssl", "crypto", "dl", "pthread"],
            extra_compile_args=["-fvisibility=hidden", "-g0"],
            extra_link_args=HIDDEN,
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": build_ffi.build_ext},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
