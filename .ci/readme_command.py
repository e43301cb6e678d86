"""Print the README's test command: its one code block that runs pytest.

Usage: readme_command.py README.md
"""

import re
import sys
from pathlib import Path


def main() -> None:
    """Fail unless there is exactly one."""
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|bash|shell|console)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [block for block in blocks if re.search(r"\bpytest\b(?! benchmarks)", block)]
    if len(commands) != 1:
        raise SystemExit(f"{sys.argv[1]}: {len(commands)} code blocks run pytest, there must be one")
    print(re.sub(r"^\$ ", "", commands[0], flags=re.MULTILINE).strip())


if __name__ == "__main__":
    main()
