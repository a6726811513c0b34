"""Do all that ``make demo`` and ``make test`` need on this machine: Java, the environments, the engines.

Nothing that is up to date is touched, so this takes no time when there is nothing to do.
"""

import os
import sys

import debian
import engines
import envelope_format
import environments
import jars
import java


def main() -> int:
    """Set the machine up. Return the exit code."""
    try:
        folder = environments.ROOT / ".lakehouse"
        folder.mkdir(exist_ok=True)
        with jars.alone(folder / "set-up.lock", "another set-up is running here: waiting for it"):
            home = java.find_or_install(os.environ).home
            environments.make()
            engines.make(home)
    except (debian.CannotInstall, envelope_format.DoesNotCompile, jars.JarError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what has arrived is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
