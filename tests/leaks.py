"""Count what libcrypto has allocated, in a child process: ``python -m tests.leaks tests.native.scenarios:enroll``.

The child hooks libcrypto's allocator (CRYPTO_set_mem_functions(3)) before anything has used it, runs a scenario some times so
that caches fill, then many times, and tells how many allocations are left over, by the line of OpenSSL that made them.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

HOOK = """
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int CRYPTO_set_mem_functions(void *(*)(size_t, const char *, int), void *(*)(void *, size_t, const char *, int),
                             void (*)(void *, const char *, int));
#define SITES 8192
static struct { const char *file; int line; long live; } sites[SITES];
static long live;
typedef struct { long site; long pad; } header;

static long site(const char *file, int line)
{
    unsigned long at = ((unsigned long)file * 31 + line) % SITES;
    while (sites[at].file != NULL && (sites[at].file != file || sites[at].line != line))
        at = (at + 1) % SITES;
    sites[at].file = file;
    sites[at].line = line;
    return at;
}
static void *made(header *block, const char *file, int line)
{
    if (block == NULL)
        return NULL;
    block->site = site(file == NULL ? "?" : file, line);
    __atomic_add_fetch(&live, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&sites[block->site].live, 1, __ATOMIC_RELAXED);
    return block + 1;
}
static void gone(header *block)
{
    __atomic_sub_fetch(&live, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&sites[block->site].live, 1, __ATOMIC_RELAXED);
}
static void *on_malloc(size_t size, const char *file, int line)
{
    return size == 0 ? NULL : made(malloc(size + sizeof(header)), file, line);
}
static void on_free(void *pointer, const char *file, int line)
{
    (void)file, (void)line;
    if (pointer == NULL)
        return;
    gone((header *)pointer - 1);
    free((header *)pointer - 1);
}
static void *on_realloc(void *pointer, size_t size, const char *file, int line)
{
    if (pointer == NULL)
        return on_malloc(size, file, line);
    if (size == 0) {
        on_free(pointer, file, line);
        return NULL;
    }
    gone((header *)pointer - 1);
    return made(realloc((header *)pointer - 1, size + sizeof(header)), file, line);
}
int install(void) { return CRYPTO_set_mem_functions(on_malloc, on_realloc, on_free); }
long count(void) { return live; }
long at(int index, char *name, size_t size)
{
    if (sites[index].live > 0)
        snprintf(name, size, "%s:%d", sites[index].file, sites[index].line);
    return sites[index].live;
}
int number(void) { return SITES; }
"""


@cache
def _hook() -> Path:
    """The compiled hook."""
    directory = tempfile.TemporaryDirectory(prefix="opensslcmp-leaks-")
    _kept.append(directory)
    source, library = Path(directory.name, "hook.c"), Path(directory.name, "hook.so")
    source.write_text(HOOK)
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    where = [f"-L{path}" for path in [os.environ.get("OPENSSLCMP_LIB")] if path]
    subprocess.run([*compiler, "-shared", "-fPIC", "-O1", source, "-o", library, *where, "-lcrypto"], check=True)
    return library


_kept: list[Any] = []


def leaked(scenario: str, *, rounds: int = 50) -> dict[str, int]:
    """What ``rounds`` runs of a scenario leave allocated, by the place in OpenSSL that allocated it.

    Args:
        scenario: ``module:function``; the function takes nothing.
        rounds: how often it runs after some runs to warm up.
    """
    # Not imported above: the child must hook libcrypto before anything has used it.
    import pytest

    from opensslcmp._native import IMPLEMENTATION

    if IMPLEMENTATION == "binary":
        pytest.skip("hooks into the system's libcrypto, and the wheel has its own")
    command = [sys.executable, "-m", "tests.leaks", "--child", str(_hook()), scenario, str(rounds)]
    root = Path(__file__).resolve().parent.parent
    child = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found: dict[str, int] = json.loads(child.stdout.splitlines()[-1])
    return found


def _child(hook: str, scenario: str, rounds: int) -> None:
    import ctypes

    library = ctypes.CDLL(hook)
    assert library.install() == 1, "libcrypto was in use before the hook"
    module, _, function = scenario.partition(":")
    run = getattr(importlib.import_module(module), function)

    def sites() -> dict[str, int]:
        gc.collect()
        name = ctypes.create_string_buffer(512)
        found: dict[str, int] = {}
        for index in range(library.number()):
            if (live := library.at(index, name, 512)) > 0:
                place = name.value.decode()
                found[place] = found.get(place, 0) + live
        return found

    for _ in range(10):
        run()
    before = sites()
    for _ in range(rounds):
        run()
    after = sites()
    more = {place: live - before.get(place, 0) for place, live in after.items() if live > before.get(place, 0)}
    print(json.dumps(dict(sorted(more.items(), key=lambda item: -item[1])[:20])))


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        _child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        print(leaked(sys.argv[1]))
