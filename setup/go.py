"""Go, which builds the API server of the tests: found on PATH, or installed from Debian's packages where that may be.

Any version will do: an older one fetches the pinned toolchain by itself (`control_plane.py`).
"""

import shutil
import sys

import debian


def main() -> int:
    """Make sure that there is a `go`; answers the exit code."""
    if shutil.which("go"):
        return 0
    try:
        debian.install(("golang-go",), "Go is needed to build the API server that the tests run against")
    except debian.CannotInstall as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
