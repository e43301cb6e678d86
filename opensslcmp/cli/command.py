"""How a function becomes a command: groups of options, errors into words and exit codes.

A command may take groups of options: parameters annotated with a dataclass whose fields are options of typer. They are
spread out for typer and put together again for the command.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, ClassVar, get_type_hints

import typer
from typer.core import TyperGroup

from opensslcmp.cli.exits import Exit, exit_code
from opensslcmp.cli.hints import hint, words
from opensslcmp.cli.talk import give_json, say
from opensslcmp.errors import BadMessage, CMPError, ProtectionError, Rejected, Unsupported

__all__ = ["add_command", "make_app"]


class _WithDefault(TyperGroup):
    """A group of which one command is meant where none is named."""

    default: ClassVar[str]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [self.default, *args]
        return super().resolve_command(ctx, args)


def make_app(help_text: str, default: str | None = None) -> typer.Typer:
    """A group of commands whose options may be written with dashes or underscores; ``default`` is meant where none is named."""
    group = type("Group", (_WithDefault,), {"default": default}) if default is not None else TyperGroup
    return typer.Typer(
        cls=group,
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "token_normalize_func": lambda name: name.replace("-", "_"),
        },
    )


def add_command(
    app: typer.Typer, name: str, function: Callable[..., None], *, example: str, panel: str = "", group: str = ""
) -> None:
    """Add a command whose help begins with its first line and ``example``; ``group`` is the name of ``app``.

    Raises what ``function`` raises as words on stderr, an exit code, and with ``--json`` an object on stdout.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            groups[parameter.name] = hint
            inner = get_type_hints(hint, include_extras=True)
            parameters += [
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=inner[field.name]
                )
                for field in dataclasses.fields(hint)
            ]
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(kind=kind, annotation=hint))

    @functools.wraps(function)
    def command(**values: Any) -> None:
        as_json = bool(values.get("as_json"))
        for parameter, kind in groups.items():
            fields = {field.name: values.pop(field.name) for field in dataclasses.fields(kind)}
            values[parameter] = kind(**fields)
        try:
            function(**values)
        except (Exception, KeyboardInterrupt) as error:
            if type(error).__module__.split(".")[0] in {"click", "typer"}:
                raise
            raise typer.Exit(_report(error, as_json=as_json)) from None

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    first, _, rest = inspect.getdoc(function).partition("\n\n")  # type: ignore[union-attr]
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    paragraphs = "\n\n".join(" ".join(paragraph.split()) for paragraph in rest.split("\n\n"))
    text = f"{first}\n\n\b\n{lines}\n\n{paragraphs}".replace("[", r"\[")
    app.command(name, help=text, short_help=first, rich_help_panel=panel or None, no_args_is_help=False)(command)
    EXAMPLES[f"{group} {name}".strip()] = example


EXAMPLES: dict[str, str] = {}
"""Command -> the example in its help; a test runs them."""


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _report(error: BaseException, *, as_json: bool) -> int:
    code = exit_code(error)
    if code is Exit.INTERNAL and not isinstance(error, CMPError):
        logging.getLogger("opensslcmp").error("unexpected", exc_info=error)
    text = "interrupted" if code is Exit.INTERRUPTED else words(error)
    say(f"error: {text}")
    advice = hint(error)
    if advice is not None:
        say(f"hint: {advice}")
    if as_json:
        details: dict[str, Any] = {"exit_code": int(code), "kind": code.name.lower(), "text": text}
        if advice is not None:
            details["hint"] = advice
        if isinstance(error, Rejected):
            details |= {
                "status": error.status.text,
                "failures": [failure.text for failure in error.failures],
                "status_text": list(error.text),
            }
        elif isinstance(error, (BadMessage, ProtectionError)):
            details["failures"] = [error.failure.text]
        elif isinstance(error, Unsupported):
            details["since"] = error.since
        give_json({"error": details})
    return int(code)
