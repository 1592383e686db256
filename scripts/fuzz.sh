#!/usr/bin/env bash
# Every target of tests/fuzz for FUZZ_SECONDS (default 60), one after the other, or those that are named; goes on after
# a finding and fails at the end. Inputs that reach new code are kept under build/fuzz, so that a later run goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

.venv/bin/python -m pip install --quiet --group fuzz
seconds="${FUZZ_SECONDS:-60}"
if [ $# = 0 ]; then
    readarray -t names < <(cd tests/fuzz && ../../.venv/bin/python -c 'import targets; print(*targets.TARGETS, sep="\n")')
    set -- "${names[@]}"
fi
failed=()
for name in "$@"; do
    log="build/fuzz/$name.log"
    mkdir -p build/fuzz
    if .venv/bin/python tests/fuzz/run.py "$name" "$seconds" >"$log" 2>&1; then
        echo "fuzz: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, nothing found"
    else
        failed+=("$name")
        echo "fuzz: $name: a finding, see $log and build/fuzz/$name-*"
    fi
done
[ ${#failed[@]} = 0 ]
