import contextlib
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.git_bash import bash_root, undo_word
from cli.windows_words import for_guest, for_host_client
from hostvm.errors import ForwardError

HERE = r"C:\Users\me\src"
BASH = {"MSYSTEM": "MINGW64", "MINGW_PREFIX": "C:/Program Files/Git/mingw64"}


def guest(line, environ=None):
    return " ".join(for_guest(shlex.split(line), HERE, environ or {}))


def host(line):
    return " ".join(for_host_client(shlex.split(line), HERE, {}))


BINDS = [
    # the five spellings
    (r"run -v 'C:\x:/w' alpine", "run -v /c/x:/w alpine"),
    ("run -v c:/x:/w alpine", "run -v /c/x:/w alpine"),
    ("run -v /c/x:/w alpine", "run -v /c/x:/w alpine"),
    ("run -v /host_mnt/c/x:/w alpine", "run -v /c/x:/w alpine"),
    ("run -v /mnt/c/x:/w alpine", "run -v /c/x:/w alpine"),
    (r"run -v '\\?\C:\x:/w' alpine", "run -v /c/x:/w alpine"),
    # the ways of writing an option
    (r"run --volume 'C:\x:/w' alpine", "run --volume /c/x:/w alpine"),
    (r"run --volume='C:\x:/w' alpine", "run --volume=/c/x:/w alpine"),
    (r"run -v='C:\x:/w' alpine", "run -v=/c/x:/w alpine"),
    (r"run -v'C:\x:/w' alpine", "run -v/c/x:/w alpine"),
    (r"run -itv 'C:\x:/w' alpine", "run -itv /c/x:/w alpine"),
    (r"run --rm -e A=1 -p 80:80 -v 'C:\x:/w' alpine", "run --rm -e A=1 -p 80:80 -v /c/x:/w alpine"),
    (r"run --pull always -v 'C:\x:/w' alpine", "run --pull always -v /c/x:/w alpine"),
    (r"compose run --pull missing -v 'C:\x:/w' web", "compose run --pull missing -v /c/x:/w web"),
    (r"container run -v 'C:\x:/w' alpine", "container run -v /c/x:/w alpine"),
    (r"-D --context a create -v 'C:\x:/w' alpine", "-D --context a create -v /c/x:/w alpine"),
    (r"compose -p a run -v 'C:\x:/w' web", "compose -p a run -v /c/x:/w web"),
    # options behind
    (r"run -v 'C:\x:/w:ro,Z' alpine", "run -v /c/x:/w:ro,Z alpine"),
    (r"run -v 'C:\a b:/w:ro' alpine", "run -v /c/a b:/w:ro alpine"),
    # relative
    ("run -v .:/w alpine", "run -v /c/Users/me/src:/w alpine"),
    (r"run -v '.\x:/w' alpine", "run -v /c/Users/me/src/x:/w alpine"),
    ("run -v ../x:/w:ro alpine", "run -v /c/Users/me/x:/w:ro alpine"),
    # the same path on both sides, as "$PWD:$PWD" gives
    (r"run -v 'C:\x:C:\x' -w 'C:\x' alpine", "run -v /c/x:/c/x -w /c/x alpine"),
    (r"run -v 'C:\x:C:\x:ro' alpine", "run -v /c/x:/c/x:ro alpine"),
    # what is not of this computer
    ("run -v data:/x alpine", "run -v data:/x alpine"),
    ("run -v data:/x:ro alpine", "run -v data:/x:ro alpine"),
    ("run -v /x alpine", "run -v /x alpine"),
    ("run -v /var/run/docker.sock:/var/run/docker.sock a", "run -v /var/run/docker.sock:/var/run/docker.sock a"),
    ("run -v //var/run/docker.sock:/var/run/docker.sock a", "run -v /var/run/docker.sock:/var/run/docker.sock a"),
    ("run -w /app alpine", "run -w /app alpine"),
    # --mount
    (r"run --mount 'type=bind,source=C:\x,target=/w' a", "run --mount type=bind,source=/c/x,target=/w a"),
    (r"run --mount='type=bind,src=c:/x,dst=/w,ro' a", "run --mount=type=bind,src=/c/x,dst=/w,ro a"),
    (r"run --mount 'source=C:\x,type=bind,target=/w' a", "run --mount source=/c/x,type=bind,target=/w a"),
    (r"run --mount 'type=bind,src=.,dst=/w' a", "run --mount type=bind,src=/c/Users/me/src,dst=/w a"),
    ("""run --mount 'type=bind,"src=C:\\a,b",dst=/w' a""", 'run --mount type=bind,"src=/c/a,b",dst=/w a'),
    ("""run --mount 'type=bind,src="C:\\a",dst=/w' a""", 'run --mount type=bind,src="C:\\a",dst=/w a'),
    ("run --mount type=volume,src=data,dst=/w a", "run --mount type=volume,src=data,dst=/w a"),
    ("run --mount type=volume,source=c,target=/w a", "run --mount type=volume,source=c,target=/w a"),
    ("run --mount type=tmpfs,dst=/w a", "run --mount type=tmpfs,dst=/w a"),
    (r"service create --mount 'type=bind,src=C:\x,dst=/w' a", "service create --mount type=bind,src=/c/x,dst=/w a"),
    # the program's own words are left alone
    (r"run alpine cat 'C:\x'", r"run alpine cat C:\x"),
    (r"run alpine prog -v 'C:\x:/w'", r"run alpine prog -v C:\x:/w"),
    (r"run --name a alpine -v 'C:\x:/w'", r"run --name a alpine -v C:\x:/w"),
    (r"run -- alpine -v 'C:\x:/w'", r"run -- alpine -v C:\x:/w"),
    (r"run -v 'C:\x:/w' -- alpine -v 'C:\x:/w'", r"run -v /c/x:/w -- alpine -v C:\x:/w"),
    (r"exec web cat 'C:\x'", r"exec web cat C:\x"),
    (r"ps --filter 'volume=C:\x'", r"ps --filter volume=C:\x"),
    ("", ""),
    ("run", "run"),
    ("run -v", "run -v"),
]

FILES = [
    (r"run --env-file 'C:\x\e.env' alpine", "run --env-file /c/x/e.env alpine"),
    (r"run --env-file='conf\e.env' alpine", "run --env-file=conf/e.env alpine"),
    (r"run --security-opt 'seccomp=C:\s.json' a", "run --security-opt seccomp=/c/s.json a"),
    ("run --security-opt no-new-privileges a", "run --security-opt no-new-privileges a"),
    (r"build 'C:\src'", "build /c/src"),
    (r"build -t app -f 'docker\Dockerfile' .", "build -t app -f docker/Dockerfile ."),
    (r"build --no-cache --file='C:\a\Dockerfile' 'C:\a'", "build --no-cache --file=/c/a/Dockerfile /c/a"),
    (r"buildx build -q 'C:\src'", "buildx build -q /c/src"),
    (r"build -t app -- 'C:\src'", "build -t app -- /c/src"),
    (r"build --pull --layers 'C:\src'", "build --pull --layers /c/src"),
    (r"cp -- '-x\y' web:/y", "cp -- -x/y web:/y"),
    (r"build --build-context 'lib=C:\lib' .", "build --build-context lib=/c/lib ."),
    ("build --build-context lib=docker-image://alpine .", "build --build-context lib=docker-image://alpine ."),
    (r"build --secret 'id=a,src=C:\key' .", "build --secret id=a,src=/c/key ."),
    (r"build -o 'C:\out' .", "build -o /c/out ."),
    (r"build -o 'type=local,dest=C:\out' .", "build -o type=local,dest=/c/out ."),
    ("build https://example.org/app.git", "build https://example.org/app.git"),
    ("build -", "build -"),
    (r"compose -f 'C:\a\compose.yaml' up -d", "compose -f /c/a/compose.yaml up -d"),
    (
        r"compose --project-directory 'C:\a' --env-file=b\\.env up",
        "compose --project-directory /c/a --env-file=b/.env up",
    ),
    ("compose logs -f web", "compose logs -f web"),
    (r"cp 'C:\x' web:/y", "cp /c/x web:/y"),
    (r"cp -L web:/y '.\y'", "cp -L web:/y ./y"),
    ("cp web:/y -", "cp web:/y -"),
    (r"load -i 'C:\i.tar'", "load -i /c/i.tar"),
    (r"save -o 'C:\i.tar' alpine", "save -o /c/i.tar alpine"),
    (r"import 'C:\i.tar' mine:1", "import /c/i.tar mine:1"),
    (r"stack deploy -c 'C:\s.yml' st", "stack deploy -c /c/s.yml st"),
    (r"secret create key 'C:\key'", "secret create key /c/key"),
    (r"volume create -o type=none -o 'device=C:\d' v", "volume create -o type=none -o device=/c/d v"),
]


@pytest.mark.parametrize(("line", "wanted"), BINDS + FILES)
def test_for_the_guests_client(line, wanted):
    assert guest(line) == wanted


@pytest.mark.parametrize(("line", "wanted"), BINDS)
def test_binds_for_a_client_here(line, wanted):
    assert host(line) == wanted


@pytest.mark.parametrize(("line", "wanted"), FILES)
def test_a_client_here_reads_its_files_itself(line, wanted):
    assert host(line) == " ".join(shlex.split(line))


@pytest.mark.parametrize("value", ["c:/data", r"C:\data", "d:x"])
def test_a_drive_is_not_a_volume_of_one_letter(value):
    with pytest.raises(ForwardError) as caught:
        for_guest(["run", "-v", value, "alpine"], "D:\\" if value[0] == "d" else HERE, {})
    assert "where in the container" in caught.value.brief
    assert f"-v {value}:/" in caught.value.resolution


@pytest.mark.parametrize("value", [r"\\server\share:/w", "//server/share:/w"])
def test_network_folder(value):
    with pytest.raises(ForwardError, match="network folder"):
        for_guest(["run", "-v", value, "alpine"], HERE, {})


# ---- Git Bash


@pytest.mark.parametrize(
    "environ",
    [
        {"MSYSTEM": "MINGW64", "MINGW_PREFIX": "C:/Program Files/Git/mingw64"},
        {"MSYSTEM": "UCRT64", "MSYSTEM_PREFIX": "C:/Program Files/Git/ucrt64"},
        {"MSYSTEM": "MINGW64", "SHELL": r"C:\Program Files\Git\usr\bin\bash.exe"},
        {"MSYSTEM": "MINGW64", "EXEPATH": r"C:\Program Files\Git\bin"},
        {"MSYSTEM": "MINGW64", "EXEPATH": r"C:\Program Files\Git"},
    ],
)
def test_bash_root(environ):
    assert bash_root(environ) == "C:/Program Files/Git"


@pytest.mark.parametrize("more", [{"MSYSTEM": ""}, {"MSYS_NO_PATHCONV": "1"}, {"MSYS2_ARG_CONV_EXCL": "*"}])
def test_no_bash_or_no_conversion(more):
    assert bash_root({**BASH, **more}) == ""


@pytest.mark.parametrize(
    ("arrived", "typed"),
    [
        ("C:/Program Files/Git/etc/passwd", "/etc/passwd"),
        ("C:/Program Files/Git/", "/"),
        ("c:/program files/git/x", "/x"),
        ("--workdir=C:/Program Files/Git/app", "--workdir=/app"),
        ("PATH=C:/Program Files/Git/x", "PATH=/x"),
        (r"C:\x;C:\Program Files\Git\w", r"C:\x:/w"),
        (r"C:\x;C:\Program Files\Git\w;ro", r"C:\x:/w:ro"),
        (r"data;C:\Program Files\Git\w", "data:/w"),
        (r"C:\x;C:\x", r"C:\x:C:\x"),
        ("C:/Program Files/GitHub/x", "C:/Program Files/GitHub/x"),
        ("a;b", "a;b"),
        (r"C:\x", r"C:\x"),
        ("", ""),
    ],
)
def test_undo_word(arrived, typed):
    assert undo_word(arrived, "C:/Program Files/Git") == typed


def test_under_git_bash():
    words = ["run", "-v", r"C:\Users\me;C:\Program Files\Git\w;ro", "-w", "C:/Program Files/Git/w", "alpine"]
    words += ["ls", "C:/Program Files/Git/etc"]
    wanted = ["run", "-v", "/c/Users/me:/w:ro", "-w", "/w", "alpine", "ls", "/etc"]
    assert for_guest(words, HERE, BASH) == wanted
    assert for_host_client(words, HERE, BASH) == wanted


NAME = st.text(st.sampled_from("abcXYZ019 _-.()"), min_size=1, max_size=8).filter(lambda name: name.strip(". ") == name)


@given(st.sampled_from("cDz"), st.lists(NAME, max_size=4), st.sampled_from(["", ":ro", ":rw,Z"]))
def test_bind_then_bind_again_changes_nothing(drive, parts, options):
    """What one pass made of a volume, a second one leaves; and the source, target and options are all there."""
    value = f"{drive}:\\" + "\\".join(parts) + f":/w{options}"
    once = for_guest(["run", "-v", value, "a"], HERE, {})
    assert once[2] == "/".join(["", drive.lower(), *parts]) + f":/w{options}"
    assert for_guest(once, HERE, {}) == once


@given(st.lists(st.text(max_size=10), max_size=6))
def test_any_words_are_as_many_words(words):
    with contextlib.suppress(ForwardError):
        assert len(for_guest(words, HERE, {})) == len(words)
