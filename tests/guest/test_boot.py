"""What process 1 hands on: every service of the guest, and what those start, is its child."""

from __future__ import annotations

FOLDERS = ("sys", "proc", "dev", "etc", "run")
PRELUDE = """\
exec 2> /dev/null # of files that are not here
for name in mount umount mkdir ln cp chmod hostname nice; do eval "$name() { :; }"; done
soft=1024 hard=4096 # the kernel's own
ulimit() {
	case "$1 $2" in
	"-S -n") soft=$3 ;;
	"-H -n") hard=$3 ;;
	esac
}
supervise() { printf '%s\\n' "$*: $soft $hard"; }
"""


def test_open_files_of_all_services_are_as_many_as_under_systemd(run_script, tmp_path):
    """containerd's too, whose shims are the parents of dockerd's containers."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    (tmp_path / "dev/null").touch()
    places = {
        ". /usr/lib/hostvm/lib.sh": "seed=$root/none; mark() { :; }",
        "exec /usr/bin/s6-svscan": "supervise",
        "/usr/lib/hostvm/": "$root/none/",
        **{f" /{name}": f" $root/{name}" for name in FOLDERS},
    }
    (line,) = run_script("guest/usr/lib/hostvm/boot", PRELUDE, {}, places)
    assert line == f"-t0 {tmp_path}/run/service: 1024 524288"
