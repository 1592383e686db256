# Sourced by Podman's service, with root's rights or without (busybox sh).

# podman_files: its settings of this boot, and a lasting place for root's logins.
podman_files() {
	mkdir -p /run/podman /run/containers /etc/containers/containers.conf.d /etc/containers/registries.conf.d
	[ -f $seed/engine/registries.conf ] && cp $seed/engine/registries.conf /etc/containers/registries.conf
	[ -f $seed/engine/containers.conf ] && cp $seed/engine/containers.conf /etc/containers/containers.conf.d/90-machine.conf
	[ -f $seed/engine/logins.conf ] && cp $seed/engine/logins.conf /etc/containers/registries.conf.d/90-logins.conf
	# Podman keeps logins in memory, at /run/containers/0/auth.json. The folder, since it writes the file anew each time;
	# no REGISTRY_AUTH_FILE, with which it fails where the file is not there yet, and looks at no other.
	[ -d /var/lib/hostvm/logins ] || mkdir -m 0700 /var/lib/hostvm/logins
	ln -sfn /var/lib/hostvm/logins /run/containers/0
}
