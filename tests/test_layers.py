"""Imports point down, and C is spelled in two packages only (docs of the layers: the package's docstrings)."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import opensslcmp

PACKAGE = Path(opensslcmp.__file__).parent
# Each layer may import itself, those under it, and the leaves.
LAYERS = ["_native", "asn1", "context", "transport", "client", "server", "testing", "cli", "__main__"]
LEAVES = ["errors", "enums", "credentials", "_version"]
# Of the leaves, one may import another of those before it.
LEAF_ORDER = ["_version", "enums", "errors", "credentials"]
ABOVE_NATIVE = ["linked"]
WITH_C = ["_native", "context", *ABOVE_NATIVE]
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(module: str) -> str:
    """``opensslcmp.asn1.gate`` belongs to ``asn1``; the package itself is ``""``."""
    return [*module.split("."), ""][1]


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file) for file in FILES}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module of ours that a file imports, wherever in the file."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*base, *([origin] if origin else [])])
            yield node.lineno, origin
            if origin == "opensslcmp":
                for alias in node.names:
                    yield node.lineno, f"opensslcmp.{alias.name}"


def allowed(importer: str, imported: str) -> bool:
    if imported in {"", *LEAVES} and importer not in LEAVES:
        return imported != "" or importer in {"", *LAYERS[LAYERS.index("client") :]}
    if importer in LEAVES:
        return imported in LEAF_ORDER[: LEAF_ORDER.index(importer)]
    if importer == "":
        return imported not in {"testing", "cli", "__main__"}
    if importer in ABOVE_NATIVE:
        return imported in {*ABOVE_NATIVE, "_native"}
    if imported in ABOVE_NATIVE:
        return importer != "_native"
    if importer == "asn1":
        return imported == "asn1"  # no libcrypto: a peer's bytes are read before C sees them
    return LAYERS.index(imported) <= LAYERS.index(importer)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path: Path) -> None:
    importer = layer(module_of(path))
    ours = ((line, name) for line, name in imports(path) if name.split(".")[0] == "opensslcmp")
    wrong = [
        f"{path.name}:{line} imports {name}"
        for line, name in ours
        # `from opensslcmp import Session`: a name of the package, not a module
        if not allowed(importer, layer(name) if name in MODULES or layer(name) in {*LAYERS, *LEAVES} else "")
    ]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_module_belongs_to_a_layer(path: Path) -> None:
    assert layer(module_of(path)) in {"", *LAYERS, *LEAVES, *ABOVE_NATIVE}


@pytest.mark.parametrize("path", [path for path in FILES if layer(module_of(path)) not in WITH_C], ids=module_of)
def test_lib_and_ffi_are_spelled_in_native_and_context_only(path: Path) -> None:
    spelled = [
        f"{path.name}:{node.lineno} {node.id}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name) and node.id in {"lib", "ffi"}
    ]
    assert not spelled


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_ffi_gc_is_written_in_memory_only(path: Path) -> None:
    if module_of(path) == "opensslcmp._native.memory":
        return
    assert "ffi.gc(" not in path.read_text(encoding="utf-8")


def test_versions_are_compared_in_the_shim_only() -> None:
    native = PACKAGE / "_native"
    headers = [path for path in native.rglob("*.h") if path.name != "shim.h"]
    compared = [path.name for path in headers if "if OPENSSL_VERSION" in path.read_text(encoding="utf-8")]
    assert headers
    assert not compared


def test_a_layer_test_can_fail() -> None:
    assert not allowed("asn1", "_native")
    assert not allowed("context", "client")
    assert not allowed("transport", "")
    assert not allowed("errors", "credentials")
    assert allowed("server", "client")
    assert allowed("client", "")


def test_no_two_test_files_have_one_name() -> None:
    # They are modules without a package, so pytest cannot collect both.
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_test_file_is_called_as_a_module_of_python_is() -> None:
    # pytest puts the directories of tests in front of sys.path, and children inherit it.
    assert not [path for path in Path(__file__).parent.rglob("*.py") if path.stem in sys.stdlib_module_names]
