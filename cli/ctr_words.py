"""What `ctr`'s words say, read before they are forwarded. Its grammar is another one than docker's. Imports nothing.

Options stand before what they belong to: behind `run` the first word that is none is the image, and what follows is the
container's (containerd 1.7, cmd/ctr).
"""

from __future__ import annotations

_GLOBAL_WITH_VALUE = frozenset({"-a", "--address", "-n", "--namespace", "--timeout", "--connect-timeout"})
_GROUPS = {
    **dict.fromkeys(("images", "image", "i"), "images"),
    **dict.fromkeys(("containers", "container", "c"), "containers"),
}
_SWITCHES = frozenset(
    {
        *(
            "--rm",
            "--cni",
            "--net-host",
            "--privileged",
            "--read-only",
            "-t",
            "--tty",
            "--allow-new-privs",
            "--seccomp",
        ),
        *("--null-io", "-d", "--detach", "--rootfs", "--no-pivot", "--runc-systemd-cgroup", "--remap-labels"),
        "--privileged-without-host-devices",
    }
)
_PLATFORM = "--platform"
_HOSTS_DIR = "hosts-dir"


def split(words: list[str]) -> tuple[str, str, int]:
    """Group ("" without), verb, and where the words behind the verb begin.

    :param words: ctr's, without "ctr" itself.
    """
    group, at = "", 0
    while at < len(words):
        word = words[at]
        at += 1
        if word.startswith("-"):
            at += 1 if not group and word in _GLOBAL_WITH_VALUE else 0
        elif not group and word in _GROUPS:
            group = _GROUPS[word]
        else:
            return group, word, at
    return group, "", at


def run_platforms(words: list[str]) -> list[str]:
    """The platforms whose programs a command is to run, as they are written: one at most."""
    group, verb, at = split(words)
    if (group, verb) not in (("", "run"), ("containers", "create")):
        return []
    found = []
    while at < len(words) and words[at].startswith("-"):
        name, equals, value = words[at].partition("=")
        at += 1
        if not equals and name not in _SWITCHES and at < len(words) and not words[at].startswith("-"):
            value = words[at]
            at += 1
        if name == _PLATFORM and value:
            found = [value]  # the last one counts
    return found


def with_hosts_dir(words: list[str]) -> list[str]:
    """Words that ask a registry, with the folder that tells how; those that name one stay as they are."""
    group, verb, at = split(words)
    if group != "images" or verb not in ("pull", "push"):
        return words
    if any(word.lstrip("-").partition("=")[0] == _HOSTS_DIR for word in words[at:]):
        return words
    return [*words[:at], f"--{_HOSTS_DIR}", "/etc/containerd/certs.d", *words[at:]]
