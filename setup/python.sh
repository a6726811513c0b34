#!/bin/sh
# Print the path of a Python for this project: 3.11 or 3.12. If there is none, print a newer one: it can run the set-up,
# and uv then fetches 3.12 for the project itself (environments.py).
set -eu

# Running it is the only proof: a name on the PATH may be a shim without a Python behind it.
print_if() {
    "$1" -c "import sys; print(sys.executable) if $2 else sys.exit(1)" 2>/dev/null
}

for name in python3 python3.12 python3.11; do
    print_if "$name" "(3, 11) <= sys.version_info[:2] < (3, 13)" && exit 0
done
for name in python3 python3.13 python3.14; do
    print_if "$name" "sys.version_info[:2] >= (3, 13)" && exit 0
done
found=$(python3 -c 'import platform; print("python3 is " + platform.python_version())' 2>/dev/null || echo "there is no python3")
echo "error: this needs Python 3.11 or 3.12, and $found; on Debian 12 and Ubuntu 24.04: sudo apt-get install python3" >&2
exit 1
