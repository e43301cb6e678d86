"""``opensslcmp cmp``: from the command line to the exit status, which is 0 or 1 as that of ``openssl cmp``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from opensslcmp.cli.cmp.arguments import Arguments, parse
from opensslcmp.cli.cmp.commands import Command
from opensslcmp.cli.cmp.log import Log
from opensslcmp.cli.cmp.table import usage
from opensslcmp.cli.cmp.transfer import Saved
from opensslcmp.cli.exits import Exit, InputError, UsageError
from opensslcmp.cli.talk import give
from opensslcmp.context.providers import load_provider, seed_from, set_provider_path, write_seed
from opensslcmp.errors import CMPError

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: what stands after ``opensslcmp cmp``.

    Returns:
        0 when all was done, else 1; 130 after Ctrl-C.
    """
    log = Log()
    try:
        given = parse(arguments, log)
        if given.has("help"):
            give(usage())
            return 0
        _surroundings(given)
        command = Command(given, log)
        with contextlib.suppress(Saved):
            command.run()
        if (place := given.text("writerand")) is not None:
            write_seed(place)
    except UsageError as error:
        log.error(str(error))
        print("cmp: Use -help for summary.", file=sys.stderr)
        return 1
    except (InputError, CMPError, OSError) as error:
        log.error(str(error))
        return 1
    except KeyboardInterrupt:
        log.error("interrupted")
        return Exit.INTERRUPTED
    return 0


def _surroundings(given: Arguments) -> None:
    """Providers and random seeds, for the whole process."""
    if (path := given.text("provider-path")) is not None:
        set_provider_path(path)
    for name in given.several("provider"):
        load_provider(name)
    for place in (given.text("rand") or "").split(":"):
        if place:
            seed_from(place)
