"""What an enrollment costs in each layer.

In one process, callgrind tells how many instructions each shared library spends itself: CPython, the Rust of ``cryptography``
that reads and writes DER, our C with cffi, the C library, and libcrypto. Beside it stands what ``anchor -f`` spends, counted the
same way: each signature and MAC of the messages once more, alone, by OpenSSL's API. That can be more than all of our libcrypto:
a MAC's key is derived for each message there, and once for a transaction here.

An instruction of libcrypto takes less time than one of CPython, so its time is reckoned at the pace of ``anchor -f``, and what is
left of the measured time is shared out among the others by their instructions.

HTTP and the store come on top; they are differences of CPU times between whole servers, since what the kernel does for them is
no instruction of ours.
"""

import re
import subprocess
import tempfile
from pathlib import Path

from benchmarks.anchor import Case, anchor_command
from benchmarks.instructions import by_object

__all__ = ["LAYERS", "floor_instructions", "layers", "microseconds"]

LAYERS = ("libcrypto", "DER (Rust)", "our C and cffi", "CPython", "C library and the rest")

_OBJECTS = (
    ("libcrypto", "libcrypto"),
    ("/cryptography/", "DER (Rust)"),
    ("_openssl.abi3", "our C and cffi"),
    ("_cffi_backend", "our C and cffi"),
    ("python", "CPython"),
)


def _layer(name: str) -> str:
    return next((layer for part, layer in _OBJECTS if part in name), LAYERS[-1])


def floor_instructions(case: Case) -> int:
    """Instructions of the signatures and MACs of one enrollment alone, by the difference of a long and a short run."""
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


def layers(profile: str) -> dict[str, int]:
    """Instructions of one enrollment, both ends, by layer."""
    spent = dict.fromkeys(LAYERS, 0)
    for name, number in by_object(profile).items():
        # A virtual environment's path has python in it whatever lies there: what counts is the file, or the package.
        place = name if "/cryptography/" in name else name.rpartition("/")[2]
        spent[_layer(place)] += number
    return spent


def microseconds(spent: dict[str, int], total: float, pace: float) -> dict[str, float]:
    """The measured total of an enrollment by layer.

    Args:
        spent: instructions by layer.
        total: microseconds of all.
        pace: microseconds of an instruction of libcrypto.
    """
    found = dict.fromkeys(LAYERS, 0.0)
    found["libcrypto"] = min(spent["libcrypto"] * pace, total)
    rest = sum(spent[layer] for layer in LAYERS[1:])
    for layer in LAYERS[1:]:
        found[layer] = (total - found["libcrypto"]) * spent[layer] / rest
    return found
