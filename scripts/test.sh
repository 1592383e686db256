#!/usr/bin/env bash
# All tests in one pytest run, the quick ones first so that a simple mistake shows within seconds. Arguments are
# passed to pytest: scripts/test.sh -k overview; files and folders among them are run instead of all:
# scripts/test.sh tests/e2e/test_suspend.py -k resume
#
# Two workers, each with machines of its own: guests that boot, and tests that wait, leave half of two processors
# idle. One after the other, as a debugger wants it: scripts/test.sh -n 0
#
# PID 1 of many containers reaps orphans late or never, and libvirt waits for the processes it ended: there the
# run gets a subreaper of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

wrapper=()
if command -v tini >/dev/null && [ ! -d /run/systemd/system ]; then
    wrapper=(tini -s --)
fi
folders=(tests/unit tests/guest tests/agent tests/registry tests/vm tests/e2e tests/faults)
for word in "$@"; do
    [ ! -e "${word%%::*}" ] || folders=()
done
exec ${wrapper[@]+"${wrapper[@]}"} .venv/bin/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder ${folders[@]+"${folders[@]}"} "$@"
