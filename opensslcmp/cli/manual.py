"""Manual pages and the reference of the commands, from the help that the commands give.

``python -m opensslcmp.cli.manual DIRECTORY`` writes ``opensslcmp.1`` and one page for each command, ``opensslcmp-enroll.1`` and
so on.
``docs/conf.py`` takes the same as one page of Markdown. Nothing is told here that ``--help`` does not tell.

Source: man-pages(7), groff_man(7).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.main import get_command

from opensslcmp._version import __version__
from opensslcmp.cli import exits
from opensslcmp.cli.main import EXAMPLES, app

__all__ = ["Page", "main", "manual_page", "pages", "write_markdown"]

_CODES = re.compile(r"^(\d+) +[A-Z_]+ +(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """What is to be said of one command.

    Attributes:
        name: in full, such as ``opensslcmp ca list``.
        summary: its first line.
        usage: its arguments, such as ``[OPTIONS] DIRECTORY``.
        paragraphs: the rest of its help.
        example: to paste; empty for a group of commands.
        options: by panel, in the order of the help: the names with what they take, and what they mean.
        commands: of a group: their names and first lines.
    """

    name: str
    summary: str
    usage: str
    paragraphs: tuple[str, ...]
    example: str
    options: dict[str, list[tuple[str, str]]]
    commands: tuple[tuple[str, str], ...]

    @property
    def file(self) -> str:
        """The name of its manual page."""
        return f"{self.name.replace(' ', '-')}.1"


def pages() -> Iterator[Page]:
    """All commands, each group before its own."""
    yield from _walk(get_command(app), "opensslcmp")


def _walk(command: Any, name: str) -> Iterator[Page]:
    context = command.context_class(command, info_name=name)
    below = dict(command.commands) if hasattr(command, "commands") else {}
    example = EXAMPLES.get(name.removeprefix("opensslcmp "), "").strip()
    first, *rest = (command.help or "").replace(r"\[", "[").split("\n\n")
    paragraphs = tuple(" ".join(each.split()) for each in rest if each.strip() and not each.startswith("\b"))
    options: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False):
            continue
        panel = getattr(parameter, "rich_help_panel", None) or ("Arguments" if _is_argument(parameter) else "Options")
        options.setdefault(panel, []).append(_described(parameter, context))
    usage = " ".join(command.collect_usage_pieces(context))
    yield Page(
        name=name,
        summary=" ".join(first.split()),
        usage=usage,
        paragraphs=paragraphs,
        example=example,
        options=options,
        commands=tuple((each.name, " ".join((each.short_help or each.help or "").split())) for each in below.values()),
    )
    for each in below.values():
        yield from _walk(each, f"{name} {each.name}")


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _described(parameter: Any, context: Any) -> tuple[str, str]:
    """Names with what they take, and what that means, as the help has it."""
    names, text = parameter.get_help_record(context) or ("", "")
    return " ".join(names.split()), " ".join(text.replace(r"\[", "[").split())


# -- troff ---------------------------------------------------------------------------------------------------------


def _troff(text: str) -> str:
    """Text as troff takes it: no line begins a request, and a dash is one that can be pasted."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^(['.])", r"\\&\1", escaped, flags=re.MULTILINE)


def manual_page(page: Page) -> str:
    """The manual page in troff (groff_man(7))."""
    title = page.file.removesuffix(".1").upper()
    lines = [
        f'.TH "{_troff(title)}" 1 "" "opensslcmp {__version__}" "opensslcmp"',
        ".SH NAME",
        rf"{_troff(page.file.removesuffix('.1'))} \- {_troff(page.summary.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_troff(page.name)}",
        _troff(page.usage),
    ]
    if page.paragraphs:
        lines.append(".SH DESCRIPTION")
        for paragraph in page.paragraphs:
            lines += [".PP", _troff(paragraph)]
    if page.commands:
        lines.append(".SH COMMANDS")
        for name, summary in page.commands:
            lines += [".TP", rf"\fB{_troff(name)}\fR", _troff(summary)]
    for panel, options in page.options.items():
        lines.append(f'.SH "{_troff(panel).upper()}"')
        for names, text in options:
            lines += [".TP", rf"\fB{_troff(names)}\fR", _troff(text)]
    if page.example:
        lines += [".SH EXAMPLE", ".nf", _troff(page.example), ".fi"]
    lines.append('.SH "EXIT STATUS"')
    for code, meaning in _CODES.findall(exits.__doc__ or ""):
        lines += [".TP", rf"\fB{code}\fR", _troff(meaning)]
    others = [f"{page.name} {name}" for name, _ in page.commands]
    if page.name != "opensslcmp":
        others.append(page.name.rpartition(" ")[0])
    if others:
        lines += [
            '.SH "SEE ALSO"',
            ",\n".join(rf"\fB{_troff(each.replace(' ', '-'))}\fR(1)" for each in sorted(others)),
        ]
    return "\n".join(lines) + "\n"


# -- Markdown ------------------------------------------------------------------------------------------------------


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", text)


def write_markdown(file: Path) -> None:
    """All commands as one page of Markdown."""
    lines = ["# Commands", "", "What `--help` says, command by command."]
    for page in pages():
        lines += ["", f"## {page.name}", "", _markdown(page.summary)]
        lines += ["", "```text", f"{page.name} {page.usage}", "```"]
        for paragraph in page.paragraphs:
            lines += ["", _markdown(paragraph)]
        if page.example:
            lines += ["", "```sh", page.example, "```"]
        tables = {"Commands": list(page.commands)} if page.commands else page.options
        for panel, options in tables.items():
            lines += ["", f"**{_markdown(panel)}**", "", "| | |", "|---|---|"]
            lines += [f"| `{names.replace('|', '/')}` | {_markdown(text)} |" for names, text in options]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(directory: str) -> None:
    """Write the manual pages."""
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    for page in pages():
        (place / page.file).write_text(manual_page(page), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
