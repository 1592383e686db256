#!/usr/bin/env bash
# All tests in one pytest run, the quick ones first so that a simple mistake shows within seconds. Arguments are
# passed to pytest: scripts/test.sh -k overview
#
# PID 1 of many containers reaps orphans late or never, and libvirt waits for the processes it ended: there the
# run gets a subreaper of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

wrapper=()
if command -v tini >/dev/null && [ ! -d /run/systemd/system ]; then
    wrapper=(tini -s --)
fi
folders=()
for folder in tests/unit tests/agent tests/registry tests/vm tests/e2e tests/faults; do
    [ ! -d "$folder" ] || folders+=("$folder")
done
exec ${wrapper[@]+"${wrapper[@]}"} .venv/bin/python -m pytest "${folders[@]}" "$@"
