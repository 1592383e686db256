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

# engine_waits: what must be there before containers start by themselves.
engine_waits() {
	local round=0
	# What the scripts of machine.yaml change, the engine and its containers find so; the agent runs them.
	if [ -f $seed/provision/table ] && grep -q ^system $seed/provision/table; then
		until [ -f /run/hostvm/marks/provisioned ]; do usleep 200000; done
	fi
	# Their folders. 60 s: whatever keeps the agent away must not keep the engine.
	if [ -f $seed/shares ]; then
		while [ ! -f /run/hostvm/marks/shares ] && [ $((round += 1)) -le 1200 ]; do usleep 50000; done
	fi
}

# engine_limits: a place for this process, which is to become the engine, and how likely it is ended for want of memory.
engine_limits() {
	# Not in the root cgroup: swap limits cannot be seen from there.
	echo 0 > /sys/fs/cgroup/system/cgroup.procs
	echo -500 > /proc/self/oom_score_adj
}

# announce SOCKET: says that an engine listens, in the words that dockerd has for it, for its log to pass on.
announce() {
	local round=0
	until [ -S "$1" ] || [ $((round += 1)) -gt 2400 ]; do usleep 50000; done
	[ ! -S "$1" ] || echo "API listen on $1"
}

# engine_ended NAME STATUS: it will be started again. One that ends three times without having been up is told of on
# the console, so that nobody waits for it in vain.
engine_ended() {
	local ends=/run/hostvm/engine-ends count=0
	[ -d /run/hostvm/stopping ] && return
	[ -f $ends ] && [ ! /run/hostvm/marks/engine -nt $ends ] && read -r count < $ends
	echo $((count += 1)) > $ends
	[ $count -ne 3 ] || fail engine "$1 ended 3 times before it was up, the last time with status $2"
}
