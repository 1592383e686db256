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

# Half of the time is mypy's, which uses one processor: its three looks begin at once, each with a cache of its own.
said="$(mktemp -d)"
trap 'rm -rf "$said"' EXIT
looks=()
for platform in linux darwin win32; do
    "$BIN/mypy" --no-error-summary --platform "$platform" --cache-dir ".mypy_cache/$platform" >"$said/$platform" 2>&1 &
    looks+=("$platform=$!")
done
check "$BIN/ruff" check --quiet .
check "$BIN/ruff" format --check --quiet .
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
for look in "${looks[@]}"; do
    printf 'lint: mypy --platform %s\n' "${look%=*}" >&2
    wait "${look#*=}" || failed=1
    cat "$said/${look%=*}"
done
exit "$failed"
