# Sourced by the guest's own scripts (busybox sh).

seed=/run/hostvm/seed

# QEMU's user-mode network; the seed names another one where this one is taken on the computer.
address=10.0.2.15/24 gateway=10.0.2.2 nameserver=10.0.2.3
[ -f $seed/network ] && . $seed/network

# mark NAME: a step of the boot is done; leaves a file for readers in the guest and a line for those outside.
mark() {
	local up rest
	read -r up rest < /proc/uptime
	echo "$up" > "/run/hostvm/marks/$1"
	echo "hostvm-guest: mark $1 $up" > /dev/console
}

# fail STEP WHY...: something is wrong but the machine goes on, so that it can be looked at over ssh.
fail() {
	local step="$1"
	shift
	echo "$*" > "/run/hostvm/marks/failed-$step"
	echo "hostvm-guest: fail $step $*" > /dev/console
}

# no_engine WHY...: the engine must not start, since what it would write would lie elsewhere.
no_engine() {
	touch /run/hostvm/no-engine
	fail engine "$@"
}

# engine_env: the engine's environment (proxies and the like) from the seed, lines of KEY=VALUE.
engine_env() {
	local line
	[ -f $seed/env ] || return 0
	while read -r line; do
		case "$line" in
		[A-Za-z_]*=*) export "$line" ;;
		esac
	done < $seed/env
}
