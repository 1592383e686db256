#!/usr/bin/env bash
# The linters; all of them run, and the status says whether any complained.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
BIN="$PWD/.venv/bin"
failed=0

check() {
    printf 'lint: %s\n' "$*" >&2
    "$@" || failed=1
}

check "$BIN/ruff" check --quiet .
check "$BIN/ruff" format --check --quiet .
for platform in linux darwin win32; do
    check "$BIN/mypy" --no-error-summary --platform "$platform"
done
check "$BIN/lint-imports" --no-logo
if command -v vagrant >/dev/null; then
    # The Vagrantfile alone, in a home of its own: no provider, no plugin, no box is looked for.
    home="$(mktemp -d)"
    VAGRANT_HOME="$home" VAGRANT_DOTFILE_PATH="$home/dot" VAGRANT_CHECKPOINT_DISABLE=1 check vagrant validate --ignore-provider
    rm -rf "$home"
else
    echo "lint: skipped: vagrant validate (this system's archive has no vagrant)" >&2
fi
if command -v shellcheck >/dev/null; then
    check shellcheck scripts/*.sh .ci/run
fi
exit "$failed"
