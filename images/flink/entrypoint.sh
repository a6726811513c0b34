#!/bin/bash
# The Flink operator starts JobManager and TaskManagers through this with the command of its own, such as
# `kubernetes-jobmanager.sh kubernetes-application`. The configuration is mounted and must not be touched.
set -euo pipefail
exec tini -s -- "$@"
