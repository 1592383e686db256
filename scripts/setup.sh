#!/usr/bin/env bash
# Makes a checkout ready: system packages, a Python virtual environment in .venv, the project in it.
#
#   scripts/setup.sh [run|test|bench|wine|trixie|tree]     all hold test, which holds run; the default is test
#
# Works on Debian and Ubuntu (apt; sudo when not root) and macOS (Homebrew). Safe to run again: what is there
# stays, and a second run takes well under a second. Asks nothing. Windows: scripts/setup.ps1.
set -euo pipefail
cd "$(dirname "$0")/.."

GROUP="${1:-test}"
case "$GROUP" in
    run) GROUPS_WANTED="run" ;;
    test) GROUPS_WANTED="run test" ;;
    bench) GROUPS_WANTED="run test bench" ;;
    wine | trixie | tree) GROUPS_WANTED="run test $GROUP" ;;
    *) echo "usage: scripts/setup.sh [run|test|bench|wine|trixie|tree]" >&2; exit 2 ;;
esac
VENV=.venv
TOOLS=.tools
TABLE=scripts/packages.txt

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$1"; [ -z "${2:-}" ] || say "$2"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command; its output is shown only when it fails.
quietly() {
    local log status=0
    log="$(mktemp)"
    "$@" >"$log" 2>&1 || status=$?
    [ "$status" = 0 ] || cat "$log" >&2
    rm -f "$log"
    return "$status"
}

# Column $1 (2: apt, 3: brew) of the wanted groups' rows, one name a line.
names() {
    awk -v wanted=" $GROUPS_WANTED " -v column="$1" \
        '!/^#/ && NF && index(wanted, " " $1 " ") && $column != "-" { print $column }' "$TABLE"
}

# ---- Debian and Ubuntu -------------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then
        quietly "$@"
    elif ! have sudo; then
        die "this needs root and there is no sudo; run it as root, then set-up again:" "$*"
    elif [ -t 0 ]; then
        quietly sudo "$@" # it asks for a password on the terminal itself
    else
        quietly sudo -n "$@" || die "this needs root; if sudo wants a password, run it yourself, then set-up again:" "$*"
    fi
}

apt_update() { # once a run, and only when something is missing
    [ -z "${APT_UPDATED:-}" ] || return 0
    APT_UPDATED=1
    say "reading the package lists"
    as_root apt-get update -qq
}

apt_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt_offers() { [ -n "$(apt-cache madison "$1" 2>/dev/null)" ]; }

apt_install() {
    say "installing $*"
    # A developer's computer must not start to offer ssh logins because tests want the program: masked while the
    # package is installed, then disabled.
    local quiet=""
    case " $* " in *" openssh-server "*) [ ! -d /run/systemd/system ] || quiet="ssh.service ssh.socket" ;; esac
    # shellcheck disable=SC2086 # a list of words
    [ -z "$quiet" ] || as_root systemctl mask --quiet $quiet
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600 "$@"
    # shellcheck disable=SC2086
    [ -z "$quiet" ] || { as_root systemctl disable --quiet $quiet || true; as_root systemctl unmask --quiet $quiet; }
}

# What the archive was found to lack is written down, so that the next run does not look again.
lacks() { grep -qxF "$1" "$TOOLS/absent" 2>/dev/null; }

note_lack() {
    say "this archive has no $1; going on without"
    mkdir -p "$TOOLS"
    echo "$1" >>"$TOOLS/absent"
}

apt_packages() {
    local arch word name missing=() optional=()
    arch="$(dpkg --print-architecture)"
    for word in $(names 2); do
        name="${word%%[@?!]*}"
        case "$word" in
            *!*) continue ;;
            *@*) [ "${word#*@}" = "$arch" ] || continue ;;
            *\?) apt_installed "$name" || lacks "$name" || optional+=("$name"); continue ;;
        esac
        apt_installed "$name" || missing+=("$name")
    done
    [ $((${#missing[@]} + ${#optional[@]})) -gt 0 ] || return 0
    apt_update
    for name in ${optional[@]+"${optional[@]}"}; do
        if apt_offers "$name"; then missing+=("$name"); else note_lack "$name"; fi
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

apt_tools() {
    local word program name
    for word in $(names 2); do
        case "$word" in *!*) ;; *) continue ;; esac
        program="${word#*!}"
        if [ -x "$TOOLS/bin/$program" ] || lacks "$word"; then continue; fi
        apt_update
        for name in $(tr , ' ' <<<"${word%!*}"); do
            apt_offers "$name" || continue
            unpack_program "$name" "$program"
            continue 2
        done
        note_lack "$word"
    done
}

# One program, from a package whose daemon must not be installed or started.
unpack_program() {
    local temp
    say "unpacking $2 of $1 into $TOOLS/bin"
    temp="$(mktemp -d)"
    (cd "$temp" && apt-get download -qq "$1" 2>log && dpkg-deb -x ./*.deb tree) || die "cannot unpack $1" "$(cat "$temp/log")"
    mkdir -p "$TOOLS/bin"
    install -m 0755 "$temp/tree/usr/bin/$2" "$TOOLS/bin/$2"
    rm -rf "$temp"
}

apt_python() { # a distribution's python3 may come without venv, without headers, or be too old (Ubuntu 22.04: 3.10)
    local version
    PYTHON="$(find_python)"
    if [ -z "$PYTHON" ]; then
        apt_update
        apt_install python3 python3-venv
        PYTHON="$(find_python)"
    fi
    if [ -z "$PYTHON" ]; then
        apt_offers python3.11 || die "hostvm needs Python 3.11 or newer; this release has $(python3 -V) and no python3.11" \
            "enable the universe archive: sudo add-apt-repository universe"
        apt_install python3.11 python3.11-venv
        PYTHON="$(find_python)"
    fi
    [ -n "$PYTHON" ] || die "no usable Python 3.11 or newer after installing one"
    version="$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')"
    if [ "$GROUP" != run ] && ! has_headers && apt_offers "$version-dev"; then
        apt_install "$version-dev" # builds libvirt-python
    fi
}

# ---- macOS -------------------------------------------------------------------------------------------------

brew_packages() {
    local name wanted
    have brew || die "Homebrew is needed to install QEMU" "see https://brew.sh, then run this again"
    wanted="$(names 3)"
    [ -n "$(find_python)" ] || wanted="$wanted python@3.13"
    for name in $wanted; do
        brew list --versions "$name" >/dev/null 2>&1 && continue
        say "installing $name"
        HOMEBREW_NO_AUTO_UPDATE=1 NONINTERACTIVE=1 brew install --quiet "$name"
    done
    PYTHON="$(find_python)"
    [ -n "$PYTHON" ] || die "no usable Python 3.11 or newer after brew install python@3.13"
}

# ---- Python ------------------------------------------------------------------------------------------------

# The newest python that runs (a pyenv shim may exist and not run), is new enough and can make environments.
find_python() {
    local name
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        have "$name" || continue
        "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        command -v "$name"
        return
    done
}

has_headers() { "$PYTHON" -c 'import sysconfig, os, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'; }

venv_works() { "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# What the environment was made from; any change installs again.
fingerprint() {
    { cat pyproject.toml "$TABLE" scripts/setup.sh; "$VENV/bin/python" -V; pwd
      pkg-config --modversion libvirt 2>/dev/null || true; } | cksum
}

up_to_date() { # a stamp of this group or of a larger one
    local group now
    venv_works && [ -x "$VENV/bin/hostvm" ] || return 1
    now="$(fingerprint)"
    for group in $(case "$GROUP" in run) echo run test ;; *) echo test ;; esac); do
        [ "$(cat "$VENV/.setup-$group" 2>/dev/null)" = "$now" ] && return 0
    done
    return 1
}

python_packages() {
    if ! venv_works; then
        say "making $VENV with $("$PYTHON" -V)"
        "$PYTHON" -m venv --clear "$VENV"
    fi
    local pip=(quietly "$VENV/bin/python" -m pip --disable-pip-version-check --no-input install --quiet)
    # A plain path instead of an import hook, which would cost every start of the client 18 ms.
    local editable=(--config-settings editable_mode=compat --editable)
    # Dependency groups (--group) came with pip 25.1; Debian 12's and Ubuntu's are older.
    "${pip[@]}" --upgrade 'pip>=25.1'
    say "installing hostvm and its Python packages into $VENV"
    if [ "$GROUP" = run ]; then
        "${pip[@]}" "${editable[@]}" .
    else
        "${pip[@]}" "${editable[@]}" . --group lint --group test
    fi
    if ! have pkg-config || ! pkg-config --exists libvirt; then
        say "libvirt's headers are not here: without the libvirt driver"
    elif ! "${pip[@]}" "${editable[@]}" '.[libvirt]' 2>"$VENV/libvirt.log"; then
        say "warning: libvirt-python did not build (see $VENV/libvirt.log): without the libvirt driver"
    fi
    fingerprint >"$VENV/.setup-$([ "$GROUP" = run ] && echo run || echo test)"
}

# ------------------------------------------------------------------------------------------------------------

main() {
    case "$(uname -s)" in
        Linux)
            have apt-get || die "set-up knows apt (Debian, Ubuntu) and Homebrew; on this system install QEMU and Python 3.11+" \
                "then: python3 -m venv $VENV && $VENV/bin/pip install --editable ."
            apt_packages
            apt_tools
            up_to_date && return
            apt_python
            ;;
        Darwin)
            have qemu-img && up_to_date && return # brew itself takes seconds to say that nothing is missing
            brew_packages
            ;;
        *) die "on Windows run: powershell -ExecutionPolicy Bypass -File scripts\\setup.ps1" ;;
    esac
    python_packages
    say "done: $VENV/bin/hostvm"
}

main
