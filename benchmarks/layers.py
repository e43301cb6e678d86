"""What an enrollment costs in each layer.

In one process, callgrind tells how many instructions each shared library spends itself: CPython, the Rust of ``cryptography``
that reads and writes DER, our C with cffi, the C library, and libcrypto. Of libcrypto's, what ``anchor -f`` spends (the same
signatures and MACs alone, counted the same way) is the crypto itself, the rest is libcrypto around it: decoders, providers,
copies. HTTP and the store come on top; they are differences of CPU times between whole servers (``report.service``), since
what the kernel does for them is no instruction of ours.
"""

import re
import subprocess
import tempfile
from pathlib import Path

from benchmarks.anchor import Case, anchor_command
from benchmarks.instructions import by_object

__all__ = ["LAYERS", "floor_instructions", "layers"]

LAYERS = ("crypto", "libcrypto around it", "DER (Rust)", "our C and cffi", "CPython", "C library and the rest")

_OBJECTS = (
    ("libcrypto", "libcrypto around it"),
    ("/cryptography/", "DER (Rust)"),
    ("_openssl.abi3", "our C and cffi"),
    ("_cffi_backend", "our C and cffi"),
    ("python", "CPython"),
)


def _layer(name: str) -> str:
    return next((layer for part, layer in _OBJECTS if part in name), LAYERS[-1])


def floor_instructions(case: Case) -> int:
    """Instructions of the crypto of one enrollment, by the difference of a long and a short run."""
    counted = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in (5, 25):
            out = Path(scratch) / f"out.{count}"
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
            command += anchor_command(case, "-f", count=count, warm_up=1)
            subprocess.run(command, check=True, capture_output=True)
            found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
            assert found is not None
            counted.append(int(found[1]))
    return (counted[1] - counted[0]) // 20


def layers(profile: str, floor: int) -> dict[str, int]:
    """Instructions of one enrollment, both ends, by layer."""
    spent = dict.fromkeys(LAYERS, 0)
    for name, number in by_object(profile).items():
        # A virtual environment's path has python in it whatever lies there: what counts is the file, or the package.
        place = name if "/cryptography/" in name else name.rpartition("/")[2]
        spent[_layer(place)] += number
    spent["crypto"] = min(floor, spent["libcrypto around it"])
    spent["libcrypto around it"] -= spent["crypto"]
    return spent
