"""What ``.ci/sanitize valgrind`` runs: every crossing into libcrypto, on the roads of success and of failure, without pytest."""

from __future__ import annotations

import sys

from tests.context import leaks_protection
from tests.native import scenarios


def main() -> None:
    """Each of them twice: what the first leaves behind, the second steps on."""
    for name, operation in {
        **{each.__name__: each for each in scenarios.PLAIN},
        **leaks_protection.OPERATIONS,
    }.items():
        print(name, flush=True)
        for _ in range(2):
            operation()


if __name__ == "__main__":
    main()
    print("nothing found")
    sys.exit()
