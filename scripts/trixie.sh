#!/usr/bin/env bash
# The tests with real guests under Debian trixie's QEMU 10, libvirt 11.3, virtiofsd in Rust and Python 3.13, whatever
# this computer has: makes a trixie tree in build/trixie, once, and runs scripts/test.sh with it as its root.
#
#   scripts/trixie.sh [PYTEST-ARGUMENT...]     without arguments everything that `make test` runs, and arm64 guests
#   scripts/trixie.sh -- COMMAND...            some command in the tree, in the checkout's folder
#
# The checkout, /tmp and the folders that HOSTVM_* name are in the tree at the same paths; .venv and .tools are the
# tree's own. Mounts and processes are in namespaces of their own: they are gone when this ends, whatever ended it.
set -euo pipefail
cd "$(dirname "$0")/.."
CHECKOUT="$PWD"
TOP="$CHECKOUT/build/trixie"
SUITE=trixie
MIRROR="${HOSTVM_DEBIAN_MIRROR:-http://deb.debian.org/debian}"

say() { printf 'trixie: %s\n' "$*" >&2; }

if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { say "this needs root (chroot, mounts) and there is no sudo; run it as root"; exit 1; }
    exec sudo -E "$CHECKOUT/scripts/trixie.sh" "$@"
fi

make_tree() {
    say "making a Debian $SUITE tree in build/trixie (some minutes, 1.5 GB)"
    rm -rf "$TOP"
    mkdir -p "$TOP/venv" "$TOP/tools"
    mmdebstrap --quiet --variant=apt --include=ca-certificates,mount,python3,python3-venv \
        "$SUITE" "$TOP/root.part" "$MIRROR" >"$TOP/mmdebstrap.log" 2>&1 || { cat "$TOP/mmdebstrap.log" >&2; exit 1; }
    mv "$TOP/root.part" "$TOP/root"
}

# What runs between unshare and the command: binds, then the tree becomes the root. $1: the tree; then the command.
# shellcheck disable=SC2016 # expanded by the inner shell
ENTER='
set -eu
tree="$1" checkout="$2"; shift 2
bind() { # folders and files that are here already, at the same path in the tree
    if [ -d "$1" ]; then mkdir -p "$tree$2"; else mkdir -p "$tree$(dirname "$2")"; [ -e "$tree$2" ] || : >"$tree$2"; fi
    mount --rbind "$1" "$tree$2"
}
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
for path in /dev /sys /tmp; do bind "$path" "$path"; done
for path in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do [ ! -e "$path" ] || bind "$path" "$path"; done
for path in "${HOSTVM_HOME:-}" "${HOSTVM_RUN:-}" "${HOSTVM_CACHE:-}"; do
    [ -z "$path" ] || { mkdir -p "$path"; bind "$path" "$path"; }
done
bind "$checkout" "$checkout"
for name in venv tools; do mkdir -p "$checkout/.$name"; mount --bind "$checkout/build/trixie/$name" "$tree$checkout/.$name"; done
# Not chroot alone: in one nobody can make user namespaces (unshare(2)), which virtiofsd needs for ordinary users.
mkdir -p "$tree/mnt/before"
cd "$tree"
pivot_root . mnt/before
umount -l mnt/before
exec chroot . /bin/sh -c "cd \"\$1\" && shift && exec \"\$@\"" sh "$checkout" "$@"
'

inside() {
    env -u PYTHONPATH -u VIRTUAL_ENV HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        unshare --mount --pid --fork --kill-child sh -c "$ENTER" sh "$TOP/root" "$CHECKOUT" "$@"
}

main() { # a function: bash has read all of it, whatever becomes of this file meanwhile
    [ -d "$TOP/root" ] || make_tree
    inside scripts/setup.sh tree
    if [ "${1:-}" = -- ]; then
        shift
        inside "$@"
    else
        inside scripts/test.sh -m "not faults and (not slow or trixie)" "$@"
    fi
}

main "$@"
exit
