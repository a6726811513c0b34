"""Generated pages that are committed: `python -m lakehouse_operator.commands.reference --write|--check`."""

import sys
from pathlib import Path

from lakehouse_operator import metrics

_PAGE = Path("docs/reference/metrics.md")
_HEAD = """# Metrics

Generated from `operator/lakehouse_operator/metrics.py` by `make generate`.

"""


def main(arguments: list[str]) -> int:
    """Write the pages, or check that they are current; answers the exit code."""
    wanted = _HEAD + metrics.table()
    if "--write" in arguments:
        _PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if not _PAGE.exists() or _PAGE.read_text(encoding="utf-8") != wanted:
        sys.stderr.write(f"{_PAGE} is not what its source makes; run: make generate\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
