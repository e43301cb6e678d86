"""``python -m opensslcmp`` and the ``opensslcmp`` command."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; without typer and rich, say how to get them.

    Args:
        arguments: those of the command, by default the process's own.

    Returns:
        the exit code (``opensslcmp.cli.exits``).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["cmp"]:
        from opensslcmp.cli.cmp.program import main as cmp

        return cmp(arguments[1:])
    if any(find_spec(name) is None for name in ("typer", "rich")):
        print("The command line of opensslcmp needs two more packages:  pip install 'opensslcmp[cli]'", file=sys.stderr)
        return 8
    from opensslcmp.cli.main import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
