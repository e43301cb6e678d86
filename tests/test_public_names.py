"""``__all__`` of every public module is what the module has, and all of it is documented."""

import ast
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import opensslcmp

PUBLIC = ["opensslcmp"] + [
    module.name
    for module in pkgutil.walk_packages(opensslcmp.__path__, "opensslcmp.")
    if not any(part.startswith("_") for part in module.name.split(".")[1:])
]


@pytest.fixture(params=PUBLIC)
def module(request: pytest.FixtureRequest) -> ModuleType:
    module = importlib.import_module(request.param)
    if len(ast.parse(inspect.getsource(module)).body) <= 1:
        pytest.skip("a package without names of its own")
    return module


def test_names_in_all_exist_and_stand_there_once(module: ModuleType) -> None:
    names = module.__all__
    assert [name for name in names if names.count(name) > 1] == []
    assert [name for name in names if not hasattr(module, name)] == []


def test_what_a_module_defines_is_in_all_or_private(module: ModuleType) -> None:
    defined = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
    }
    assert defined - set(module.__all__) == set()


def test_modules_and_public_objects_say_what_they_are(module: ModuleType) -> None:
    assert module.__doc__
    silent = []
    for name in module.__all__:
        value = getattr(module, name)
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            # A dataclass without docstring gets its signature as one.
            if not value.__doc__ or value.__doc__.startswith(f"{name}("):
                silent.append(name)
            for member, function in vars(value).items():
                attribute = getattr(function, "fget", function)
                if not member.startswith("_") and inspect.isfunction(attribute) and not inspect.getdoc(attribute):
                    silent.append(f"{name}.{member}")
        elif inspect.isfunction(value) and not inspect.getdoc(value):
            silent.append(name)
    assert silent == []


def test_all_is_assigned_once_where_people_and_type_checkers_read_it(module: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(module))
    written = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and any(
            isinstance(target, ast.Name) and target.id == "__all__"
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        )
    ]
    assert len(written) == 1


def test_no_name_of_the_package_is_a_module_too() -> None:
    """Importing ``package.name`` anywhere would put the module where the name was."""
    modules = {module.name for module in pkgutil.iter_modules(opensslcmp.__path__)}
    assert modules & set(opensslcmp.__all__) == set()
