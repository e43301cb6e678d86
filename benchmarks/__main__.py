"""``python -m benchmarks``: see ``report``."""

from benchmarks.report import main

main()
