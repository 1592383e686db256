# Sourced by an engine that has no root's rights (busybox sh), and by what talks to it in its user's name.

export HOME=/var/lib/hostvm/engine XDG_RUNTIME_DIR=/run/user/1000 USER=engine
as_engine="/usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups"

# rootless_ready DATA: what only root can give the engine's user: folders, and rights that cost nobody else any.
rootless_ready() {
	mkdir -p $HOME $XDG_RUNTIME_DIR "$1"
	chmod 0700 $HOME $XDG_RUNTIME_DIR
	chown engine:engine $HOME $XDG_RUNTIME_DIR "$1"
	# Ports below 1024 and ping are nobody's privilege in a guest that has no other users.
	echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
	echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range
	# As udev would; the way out of a network namespace that nobody with root's rights made.
	chmod 0666 /dev/net/tun
}

# rootless_limits GROUP: as engine_limits. The group is the engine's and all containers': without systemd no engine makes
# groups of its own below it.
rootless_limits() {
	engine_limits
	mkdir -p "/sys/fs/cgroup/$1"
	echo 0 > "/sys/fs/cgroup/$1/cgroup.procs"
	# Nobody without root's rights can make containers likelier to be ended for want of memory than their engine is.
	echo 0 > /proc/self/oom_score_adj
}
