from __future__ import annotations

import pytest

from images.accounts import account_files, add_accounts
from images.errors import RecipeError
from images.recipe import User
from images.tree import Tree

PASSWD = "root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
GROUP = "root:*:0:\ndaemon:*:1:\nshadow:*:42:\n"
ANNA = User("anna", 1000, 1000, "/home/anna", "/bin/sh", ("docker", "daemon"))


def test_masters_users_and_groups():
    files = account_files(PASSWD, GROUP, [ANNA], {"docker": 990, "anna": 1000})
    assert files["passwd"].splitlines() == [
        "root:x:0:0:root:/root:/bin/bash",
        "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin",
        "anna:x:1000:1000::/home/anna:/bin/sh",
    ]
    assert files["group"].splitlines() == [
        "root:x:0:",
        "daemon:x:1:anna",
        "shadow:x:42:",
        "docker:x:990:anna",
        "anna:x:1000:",
    ]
    assert files["shadow"].splitlines()[2] == "anna:*::0:99999:7:::"
    assert files["gshadow"].splitlines()[1] == "daemon:*::anna"


def test_a_user_may_replace_debians_own():
    files = account_files(PASSWD, GROUP, [User("root", 0, 0, "/root", "/bin/sh")], {})
    assert files["passwd"].splitlines()[0] == "root:x:0:0::/root:/bin/sh"
    assert len(files["passwd"].splitlines()) == 2


def test_missing_groups_are_told():
    with pytest.raises(RecipeError) as error:
        account_files(PASSWD, GROUP, [ANNA], {})
    assert error.value.details.splitlines() == ["anna: docker", "anna: gid 1000"]


def test_files_and_homes():
    tree = Tree()
    tree.add_file("usr/share/base-passwd/passwd.master", PASSWD.encode())
    tree.add_file("usr/share/base-passwd/group.master", GROUP.encode())
    add_accounts(tree, [ANNA], {"docker": 990, "anna": 1000})
    assert (tree.nodes["etc/shadow"].mode, tree.nodes["etc/shadow"].gid) == (0o640, 42)
    assert (tree.nodes["home/anna"].uid, tree.nodes["home/anna"].mode) == (1000, 0o755)
