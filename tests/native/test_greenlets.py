"""Greenlets that switch inside a callback from C, as AsyncSession does: the rules of ``callbacks.py`` hold.

Leaks of the same scenarios are counted in ``test_leaks.py``.
"""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

import build_ffi
from opensslcmp.errors import OpenSSLError
from tests.native import scenarios

ROOT = Path(build_ffi.__file__).parent


@pytest.mark.parametrize("scenario", scenarios.WITH_GREENLETS, ids=lambda one: one.__name__)
def test_a_greenlet_may_sleep_inside_c(scenario: Callable[[], None]) -> None:
    scenario()


def test_a_hundred_enrollments_in_one_thread_are_answered_in_no_order() -> None:
    assert scenarios.interleaved(100) == 100
    scenarios.del_left()


def test_a_sleeping_context_refuses_another_call_and_close() -> None:
    ((enrollment, request),) = scenarios.started(1)
    (client,) = scenarios.contexts_alive
    with pytest.raises(RuntimeError, match="inside another call"):
        client.close()
    with pytest.raises(RuntimeError, match="inside another call"):
        client.revoke()
    result = enrollment.switch(enrollment.server.process(request))
    assert isinstance(enrollment.switch(enrollment.server.process(result[1])), bytes)
    del client
    scenarios.del_left()


def test_errors_of_one_enrollment_are_not_blamed_on_another() -> None:
    good, bad = (scenarios.Enrollment(guard=False) for _ in range(2))
    _, request = good.switch()
    bad.switch()
    with pytest.raises(OpenSSLError, match="transfer error"):
        bad.switch(b"junk")
    _, request = good.switch(good.server.process(request))
    assert isinstance(good.switch(good.server.process(request)), bytes)


CHILD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("opensslcmp._native._openssl", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["opensslcmp._native._openssl"] = module
spec.loader.exec_module(module)
from opensslcmp import _native
assert _native.lib is module.lib
from tests.native import scenarios
for _ in range(2):
    scenarios.everything()
assert scenarios.interleaved(50) == 50
print("clean")
"""


@pytest.fixture(scope="module")
def sanitizer() -> str:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    if "clang" in compiler[0]:
        pytest.skip("AddressSanitizer is preloaded from gcc only")
    found = subprocess.run([*compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = found.stdout.strip()
    if not os.path.isabs(library):
        pytest.skip("libasan is missing")
    return library


@pytest.fixture(scope="module")
def instrumented(sanitizer: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension with AddressSanitizer in it."""
    source = tmp_path_factory.mktemp("asan") / "_openssl.c"
    library = source.with_name("_openssl.abi3.so")
    build_ffi.emit(source)
    include, directory = os.environ.get("OPENSSLCMP_INCLUDE"), os.environ.get("OPENSSLCMP_LIB")
    command = [*(sysconfig.get_config_var("CC") or "cc").split(), "-shared", "-fPIC", "-g1", "-O0"]
    # greenlet copies stacks, and a guarded stack must not be copied: the heap is what is watched here.
    command += ["-fsanitize=address", "--param", "asan-stack=0", "-DPy_LIMITED_API=0x030b0000"]
    command += [f"-I{build_ffi.NATIVE}", f"-I{sysconfig.get_path('include')}", *([f"-I{include}"] if include else [])]
    command += [str(source), "-o", str(library), *([f"-L{directory}"] if directory else []), "-lssl", "-lcrypto"]
    subprocess.run(command, check=True)
    return library


def run(library: Path, sanitizer: str, code: str) -> "subprocess.CompletedProcess[str]":
    options = "detect_leaks=0:replace_intrin=0:detect_stack_use_after_return=0:abort_on_error=0"
    # greenlet throws C++ exceptions; the sanitizer must find who does that before greenlet is loaded.
    preloaded = f"{sanitizer} libstdc++.so.6"
    environment = {**os.environ, "LD_PRELOAD": preloaded, "ASAN_OPTIONS": options, "PYTHONMALLOC": "malloc"}
    return subprocess.run(
        [sys.executable, "-c", code, str(library)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_address_sanitizer_finds_nothing(instrumented: Path, sanitizer: str) -> None:
    child = run(instrumented, sanitizer, CHILD)
    assert (child.returncode, child.stdout.strip()) == (0, "clean"), child.stderr


def test_address_sanitizer_can_find_something(instrumented: Path, sanitizer: str) -> None:
    twice = CHILD.partition("from tests")[0] + (
        "lib, ffi = module.lib, module.ffi\n"
        "made = lib.ASN1_INTEGER_new()\n"
        "lib.ASN1_INTEGER_free(made)\n"
        "lib.ASN1_INTEGER_free(made)\n"
    )
    child = run(instrumented, sanitizer, twice)
    assert child.returncode != 0
    assert "AddressSanitizer" in child.stderr
