"""Folders in docker's words become those of the guest, or are told to be unshared before anything is made."""

from __future__ import annotations

import sys

import pytest

from cli.share_words import may_name_folders, with_guest_paths
from hostvm.errors import ForwardError
from hostvm.shares.model import Mount

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")
MOUNTS = [Mount("/home/me", "/home/me"), Mount("/data/src", "/src")]


@pytest.mark.parametrize(
    ("words", "becomes"),
    [
        ("run -v /home/me/a:/w img", None),
        ("run -v /data/src/a:/w:ro img", "run -v /src/a:/w:ro img"),
        ("run -it -v ./x:/w -v ..:/up img", "run -it -v /home/me/p/x:/w -v /home/me:/up img"),
        ("run -v .git:/git -v ..data:/d img", "run -v /home/me/p/.git:/git -v /home/me/p/..data:/d img"),
        ("run --mount type=bind,src=.git,dst=/w img", "run --mount type=bind,src=/home/me/p/.git,dst=/w img"),
        ("run --replace -v /data/src:/w img", "run --replace -v /src:/w img"),
        ("run --rm -itv .:/w img", "run --rm -itv /home/me/p:/w img"),
        ("run -v/data/src:/w img", "run -v/src:/w img"),
        ("run --volume=/data/src:/w img", "run --volume=/src:/w img"),
        ("container create --volume /data/src:/w img", "container create --volume /src:/w img"),
        ("run --mount type=bind,src=/data/src,dst=/w img", "run --mount type=bind,src=/src,dst=/w img"),
        ("run --mount type=volume,source=data,target=/w img", None),
        ("run -v data:/w -v /w2 img", None),
        ("run -v /var/run/docker.sock:/var/run/docker.sock img", None),
        ("run -v /lib/modules:/lib/modules:ro img", None),
        # Not options of docker: they stand behind the image, or are another option's value.
        ("run img tar -v /nowhere:/x", None),
        ("run -e -v/nowhere:/x img", None),
        ("run --name -v img /nowhere:/x", None),
        ("rm -v box", None),
        ("--context c run -v /data/src:/w img", "--context c run -v /src:/w img"),
        # Podman's build has them too, and docker's has them not.
        ("build -v ./x:/w:ro -t a .", "build -v /home/me/p/x:/w:ro -t a ."),
        ("image build -qv=/data/src:/w:O . --volume=/data/src/b:/b", "image build -qv=/src:/w:O . --volume=/src/b:/b"),
        ("build --volume /data/src:/w -v/data/src:/x .", "build --volume /src:/w -v/src:/x ."),
        ("build -t -v /nowhere:/x", None),
        ("build -- -v /nowhere:/x", None),
    ],
)
def test_words(words, becomes):
    assert with_guest_paths(words.split(), MOUNTS, "/home/me/p") == (becomes or words).split()
    assert may_name_folders(words.split()) or becomes is None


def test_an_unshared_folder_of_a_build_is_refused():
    with pytest.raises(ForwardError, match="/nowhere is not shared"):
        with_guest_paths(["build", "-v", "/nowhere:/x", "."], MOUNTS, "/home/me/p")


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ('type=bind,"src=/data/src/a,b",dst=/w', 'type=bind,"src=/src/a,b",dst=/w'),
        ('"type=bind","source=/data/src/a",dst=/w', "type=bind,source=/src/a,dst=/w"),
        ('type=bind,"src=/data/src/a ""b""",dst=/w', 'type=bind,"src=/src/a ""b""",dst=/w'),
        ("TYPE=Bind,SRC=/data/src,dst=/w", "TYPE=Bind,SRC=/src,dst=/w"),
        ("type=volume,type=bind,src=/data/src,dst=/w", "type=volume,type=bind,src=/src,dst=/w"),
        ("type=bind,type=volume,src=/nowhere,dst=/w", None),
        ('"type=bind",src=/home/me/a,dst=/w', None),
        # No folder's name: docker refuses them.
        ('type=bind,src=/nowhere"x,dst=/w', None),
        ('type=bind,"src=/nowhere,dst=/w', None),
    ],
)
def test_values_of_mount_are_read_as_docker_does(value, becomes):
    changed = with_guest_paths(["run", "--mount", value, "img"], MOUNTS, "/home/me/p")
    assert changed == ["run", "--mount", becomes or value, "img"]


@pytest.mark.parametrize(
    "words",
    [
        'run --mount type=bind,"src=/nowhere,else",dst=/x img',
        "run --mount Type=BIND,Source=/nowhere,dst=/x img",
        "run -v /nowhere:/x img",
        "create --mount type=bind,source=/nowhere/y,target=/x img",
        "run -itv ../../../n:/x img",
        "run --replace --name web -v /nowhere:/x img",
    ],
)
def test_an_unshared_folder_is_refused(words):
    with pytest.raises(ForwardError) as caught:
        with_guest_paths(words.split(), MOUNTS, "/home/me/p")
    assert "is not shared" in caught.value.brief
    assert "/home/me, /data/src" in caught.value.details
    assert caught.value.resolution.startswith("hostvm mount add /")
    assert caught.value.exit_status == 125


@pytest.mark.parametrize("sock", ["/run/user/1000/hostvm/m/docker.sock", "/home/me/.hostvm/run/m/docker.sock"])
def test_the_machines_socket_here_is_the_engines_own_there(sock):
    """Also where that lies in a folder that is shared, or in one whose name means the guest's."""
    words = ["run", "-v", f"{sock}:/s", "--mount", f"type=bind,src={sock},dst=/t", "x"]
    expected = ["run", "-v", "/run/docker.sock:/s", "--mount", "type=bind,src=/run/docker.sock,dst=/t", "x"]
    assert with_guest_paths(words, MOUNTS, "/home/me/p", sock=sock) == expected


def test_what_lies_on_a_further_disk_is_the_guests():
    words = ["run", "-v", "/srv/scratch/a:/a", "x"]
    assert with_guest_paths(words, MOUNTS, "/home/me/p", lambda: ["/srv/scratch"]) == words
    with pytest.raises(ForwardError):
        with_guest_paths(["run", "-v", "/srv/scratchy:/a", "x"], MOUNTS, "/home/me/p", lambda: ["/srv/scratch"])


def test_what_is_the_guests_stays_so_when_the_whole_computer_is_shared():
    words = ["run", "-v", "/var/run/docker.sock:/s", "-v", "/opt/a:/a", "x"]
    wanted = ["run", "-v", "/var/run/docker.sock:/s", "-v", "/computer/opt/a:/a", "x"]
    assert with_guest_paths(words, [Mount("/", "/computer")], "/") == wanted


def test_a_folder_that_is_not_there_is_named_itself(tmp_path):
    with pytest.raises(ForwardError) as caught:
        with_guest_paths(["run", "-v", f"{tmp_path}/absent:/a", "x"], MOUNTS, "/")
    assert caught.value.resolution.startswith(f"hostvm mount add {tmp_path}/absent\n")
