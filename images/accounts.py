"""passwd, group and shadow files, from base-passwd's masters and a recipe's own users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from images.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from images.recipe import User
    from images.tree import Tree

MASTERS = "usr/share/base-passwd"
SHADOW_GID = 42  # group shadow in base-passwd


def account_files(
    passwd_master: str, group_master: str, users: Sequence[User], groups: Mapping[str, int]
) -> dict[str, str]:
    """The content of etc/{passwd,group,shadow,gshadow}.

    Passwords are `*`: no password fits, but the account is not locked, so sshd lets keys in (with `!` and
    `UsePAM no` it refuses).

    :raises RecipeError: a user's group does not exist.
    """
    # A recipe may give Debian's accounts, root say, another shell; they stay where people look for them: first.
    accounts = {line.split(":")[0]: line.split(":") for line in passwd_master.splitlines() if line}
    accounts.update((u.name, [u.name, "x", str(u.uid), str(u.gid), "", u.home, u.shell]) for u in users)
    people = accounts.values()
    teams = {line.split(":")[0]: line.split(":")[2] for line in group_master.splitlines() if line}
    teams.update((name, str(gid)) for name, gid in groups.items())
    members: dict[str, list[str]] = {name: [] for name in teams}
    missing = [f"{user.name}: {name}" for user in users for name in user.groups if name not in teams]
    known = set(teams.values())
    missing += [f"{user.name}: gid {user.gid}" for user in users if str(user.gid) not in known]
    if missing:
        raise RecipeError("users belong to groups that do not exist", "\n".join(missing), "Add them to `groups`")
    for user in users:
        for name in user.groups:
            members[name].append(user.name)
    return {
        "passwd": "".join(":".join([fields[0], "x", *fields[2:]]) + "\n" for fields in people),
        "shadow": "".join(f"{fields[0]}:*::0:99999:7:::\n" for fields in people),
        "group": "".join(f"{name}:x:{gid}:{','.join(members[name])}\n" for name, gid in teams.items()),
        "gshadow": "".join(f"{name}:*::{','.join(members[name])}\n" for name in teams),
    }


def add_accounts(tree: Tree, users: Sequence[User], groups: Mapping[str, int]) -> None:
    """Write the account files and the users' home folders into a tree."""
    passwd, group = (tree.read(f"{MASTERS}/{name}.master").decode() for name in ("passwd", "group"))
    for name, text in account_files(passwd, group, users, groups).items():
        secret = "shadow" in name
        tree.add_file(f"etc/{name}", text.encode(), 0o640 if secret else 0o644, 0, SHADOW_GID if secret else 0)
    for user in users:
        if user.home not in ("/", "/nonexistent") and tree.get(user.home) is None:
            tree.add_dir(user.home.strip("/"), 0o755, user.uid, user.gid)
