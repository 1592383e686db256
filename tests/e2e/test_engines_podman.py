"""Words of Podman's own, which docker has not."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.vm


@pytest.mark.slow
def test_what_podmans_users_put_behind_a_folder(rig, tmp_path):
    """There is no SELinux in the guest: a label is none, read-only or not."""
    if rig.engine != "podman" or not rig.can("shared folders", "docker", "ps"):
        pytest.skip("labels, overlays and volumes of builds are Podman's words")
    folder = tmp_path
    (folder / "word").write_text("from here")
    rig.ok("mount", "add", str(folder))
    look = ("busybox", "sh", "-c", "cat /w/word; echo changed > /w/word && cat /w/word")
    (folder / "word").chmod(0o444)
    for how in ("Z", "ro,Z"):
        assert (
            rig.ok("podman", "run", "--rm", "-v", f"{folder}/word:/word:{how}", "busybox", "cat", "/word")
            == "from here"
        )
    assert rig.ok("podman", "run", "--rm", "-v", f"{folder}:/w:O", *look) == "from herechanged"
    assert (folder / "word").read_text() == "from here"
    (folder / "Dockerfile").write_text("FROM busybox\nRUN cat /w/word > /kept\n")
    rig.ok("podman", "build", "-q", "-t", "of-volume", "-v", f"{folder}:/w:ro", str(folder))
    assert rig.ok("podman", "run", "--rm", "of-volume", "cat", "/kept") == "from here"
    for name in ("first", "second"):  # and podman's own copies between containers, with mode and time
        rig.ok("docker", "run", "-d", "--name", name, "busybox", "tail", "-f", "/dev/null")
    make = "echo text > /f; chmod 640 /f; chown 12:34 /f; touch -d @1000000000 /f"
    rig.ok("docker", "exec", "first", "sh", "-c", make)
    rig.ok("podman", "cp", "first:/f", "second:/g")  # the owner is the other container's user, also by --archive=false
    assert rig.ok("docker", "exec", "second", "stat", "-c", "%a %u %Y", "/g") == "640 0 1000000000"
    for name in ("first", "second"):
        rig.remove(name)
    rig.ok("mount", "rm", str(folder))
