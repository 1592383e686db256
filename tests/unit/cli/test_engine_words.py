"""What happens to an engine's word before it is forwarded, and after."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from cli import engine_words, platform_words
from cli.engine_words import run_engine_word
from cli.main import split_globals
from hostvm.agent import client
from hostvm.errors import ForwardError
from hostvm.shares.model import Mount


@pytest.fixture
def forwarded(monkeypatch):
    """What is forwarded to a machine of containerd; each ends with `status`."""
    made = SimpleNamespace(argv=[], env=[], status=0)

    def forward(name, argv, **options):
        assert name == "bare"
        made.argv.append(argv)
        made.env.append(options.get("env") or {})
        return made.status

    monkeypatch.setattr(engine_words, "engine_of", lambda _: "containerd")
    monkeypatch.setattr(engine_words, "_forward", forward)
    monkeypatch.delenv("DOCKER_DEFAULT_PLATFORM", raising=False)
    return made


def run(line: str) -> int:
    return run_engine_word(split_globals(["-m", "bare", *line.split()]))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("ctr run --platform linux/arm64 image one", "ctr"),
        ("nerdctl run --platform=linux/arm64 image", "nerdctl"),
        ("nerdctl -n k8s.io run --platform linux/arm64 image", "nerdctl"),
    ],
)
def test_an_emulator_is_there_before_a_platforms_program_is(line, word, forwarded, monkeypatch):
    asked = []

    def require(name, word, words, env, start):
        assert not forwarded.argv
        asked.append((name, word, words))

    monkeypatch.setattr(platform_words, "require_emulators", require)
    assert run(line) == 0
    assert asked == [("bare", word, line.split()[1:])]
    assert forwarded.argv == [line.split()]


def test_a_platform_that_is_not_emulated_is_refused(forwarded, monkeypatch):
    from cli.commands import common
    from hostvm import spec, state
    from hostvm.errors import MachineError

    monkeypatch.setattr(common, "require_machine", lambda _: None)
    monkeypatch.setattr(state, "load_state", lambda _: SimpleNamespace(arch="amd64"))
    monkeypatch.setattr(spec, "load_spec", lambda _: spec.default_spec())
    for line in ("ctr run --platform linux/riscv64 image one", "nerdctl -n x run --platform linux/riscv64 image"):
        with pytest.raises(MachineError, match=r"does not run containers of linux/riscv64"):
            run(line)
    assert forwarded.argv == []
    assert run("ctr run --platform linux/386 image one") == 0, "amd64 runs them by itself"


def test_a_pull_is_told_how_registries_are_reached(forwarded):
    run("ctr image pull docker.io/library/busybox:latest")
    assert forwarded.argv[0][3:5] == ["--hosts-dir", "/etc/containerd/certs.d"]


def test_nerdctl_finds_debians_network_plugins(forwarded, monkeypatch):
    monkeypatch.setenv("CNI_PATH", "/opt/cni/here")
    run("nerdctl ps")
    run("ctr version")
    assert [env.get("CNI_PATH") for env in forwarded.env] == ["/usr/lib/cni", None]


@pytest.fixture
def shared(monkeypatch):
    """Folders that the machine has at the same path."""
    mounts = []
    monkeypatch.setattr(client, "agent_is_ready", lambda _: True)
    monkeypatch.setattr("hostvm.shares.client.shared_mounts", lambda _: [Mount(one, one) for one in mounts])
    return mounts


def test_a_copy_by_nerdctl_is_its_own(forwarded, shared):
    """containerd has no Docker API to copy by."""
    shared.append("/b")
    assert run("nerdctl cp web:/a /b") == 0
    assert forwarded.argv == [["nerdctl", "cp", "web:/a", "/b"]]


@pytest.mark.parametrize("line", ["cp web:/a {}/file", "-n k8s.io cp {}/file web:/a", "container cp web:/a file"])
def test_one_of_what_is_not_shared_is_refused(forwarded, shared, tmp_path, monkeypatch, line):
    """nerdctl took the guest's own path of that name: nothing came here, and the status was 0."""
    monkeypatch.chdir(tmp_path)
    words = line.format(tmp_path)
    with pytest.raises(ForwardError) as caught:
        run(f"nerdctl {words}")
    assert str(caught.value.resolution).splitlines() == [
        f"hostvm mount add {tmp_path} -m bare",
        "or, if a path of the guest is meant: hostvm shell -m bare -- nerdctl cp ...",
    ]
    assert forwarded.argv == []
    shared.append(str(tmp_path))
    assert run(f"nerdctl {words}") == 0
    assert forwarded.argv == [["nerdctl", *words.split()]]


@pytest.mark.parametrize(
    "front", ["-n k8s.io", "--namespace=k8s.io --debug-full", "--snapshotter native --cni-path /x", "-nk8s.io"]
)
def test_nerdctls_own_options_hide_no_command(forwarded, shared, tmp_path, monkeypatch, front):
    """A build looked for its folder in the guest, and an archive was written there."""
    monkeypatch.chdir(tmp_path)
    assert run(f"nerdctl {front} build -t web .") == 0
    assert forwarded.argv[0][:2] == ["/bin/sh", "-c"]
    assert forwarded.argv[0][4:] == ["nerdctl", *front.split(), "build", "-t", "web", "."]
    assert run(f"nerdctl {front} save -o a.tar image") == 0
    assert forwarded.argv[1] == ["nerdctl", *front.split(), "save", "image"]
    assert (tmp_path / "a.tar").exists()
    with pytest.raises(ForwardError, match="is not shared with the machine at the same path"):
        run(f"nerdctl {front} compose -f {tmp_path / 'a.tar'} up")


def test_an_image_without_nerdctl_is_told_of_with_the_recipe(forwarded, monkeypatch):
    looked = []

    def run_in_guest(run_dir, argv):
        looked.append(argv[-1])
        return SimpleNamespace(status=there)

    monkeypatch.setattr(client, "run_in_guest", run_in_guest)
    assert run("nerdctl ps") == 0
    assert looked == [], "what worked is there"
    forwarded.status, there = 127, 0
    assert run("nerdctl run image nothing") == 127, "the container's program is what is missing"
    there = 1
    with pytest.raises(ForwardError) as raised:
        run("nerdctl ps")
    assert raised.value.brief == "the guest image of machine bare has no nerdctl"
    assert "docs/engines.md" in raised.value.details
    assert "hostvm image build --recipe nerdctl.yaml" in raised.value.resolution
    assert looked == ["nerdctl", "nerdctl"]
    assert run("ctr run image one nothing") == 127


@pytest.mark.parametrize(
    "line",
    [
        "docker --context prod run -v /srv/data:/data web",
        "docker --context=prod container run --mount type=bind,src=/srv/data,dst=/data web",
        "docker -c prod run -v /srv/data:/data web",
        "docker -D -cprod create -v /srv/data:/data web",
        "docker -H tcp://prod run -v /srv/data:/data web",
        "docker --host=ssh://prod run --platform linux/arm64 -v /srv/data:/data web",
    ],
)
def test_another_engines_folders_are_not_this_computers(line, forwarded, monkeypatch):
    monkeypatch.setenv("HOSTVM_CLIENT", "guest")
    monkeypatch.setattr(engine_words, "engine_of", lambda _: "docker")
    assert run(line) == 0
    assert forwarded.argv == [line.split()]


def test_the_agent_may_explain_a_failure(monkeypatch):
    """Also of one that is repeated once its machine has started."""
    asked = []

    def forward(_, argv, **options):
        asked.append((argv, options["explain"]))
        if len(asked) == 1:
            raise client.AgentAbsent("off", None, None)
        return 1

    monkeypatch.setattr("cli.forward.forward", forward)
    monkeypatch.setattr(engine_words, "_start", lambda _: None)
    assert engine_words._forward("box", ["docker", "ps"]) == 1
    assert asked == [(["docker", "ps"], True)] * 2


def test_a_folder_that_is_not_shared_is_told_to_be_shared_with_the_same_machine(forwarded, monkeypatch):
    """Pasted, it went to the default one, and the container still was refused; or to docker, which is not there."""
    from hostvm.shares import client as shares

    monkeypatch.setattr(client, "agent_is_ready", lambda _: True)
    monkeypatch.setattr(shares, "shared_mounts", lambda _: [])
    monkeypatch.setattr(engine_words, "_disks", lambda _: [])
    with pytest.raises(ForwardError) as caught:
        run("nerdctl run -v /nowhere/at/all:/w image")
    assert str(caught.value.resolution).splitlines() == [
        "hostvm mount add /nowhere/at/all -m bare",
        "or, if a path of the guest is meant: hostvm shell -m bare -- env CNI_PATH=/usr/lib/cni nerdctl run ...",
    ]


@pytest.mark.parametrize("word", ["docker", "podman"])
def test_with_the_client_that_was_meant(monkeypatch, word):
    from hostvm.shares import client as shares

    monkeypatch.setattr(client, "agent_is_ready", lambda _: True)
    monkeypatch.setattr(shares, "shared_mounts", lambda _: [])
    monkeypatch.setattr(engine_words, "_disks", lambda _: [])
    with pytest.raises(ForwardError, match=f"hostvm shell -m bare -- {word} run \\.\\.\\."):
        engine_words._with_shares("bare", word, ["run", "-v", "/nowhere:/w", "image"])


def test_a_build_of_podmans_names_folders_too(monkeypatch):
    from hostvm.shares import client as shares

    monkeypatch.setattr(client, "agent_is_ready", lambda _: True)
    monkeypatch.setattr(shares, "shared_mounts", lambda _: [])
    monkeypatch.setattr(engine_words, "_disks", lambda _: [])
    words = ["build", "-v", "/nowhere:/w", "."]
    with pytest.raises(ForwardError, match=r"hostvm shell -m bare -- podman build \.\.\."):
        engine_words._with_shares("bare", "podman", words)
    assert engine_words._with_shares("bare", "docker", words) == words, "docker's own client has something to say"


@pytest.mark.skipif(sys.platform == "win32", reason="a working folder cannot be deleted there")
def test_a_folder_with_its_whole_path_is_built_from_a_working_folder_that_is_gone(tmp_path, monkeypatch):
    """As docker does on Linux; it was told that the system refused, for no such file."""
    app, gone = tmp_path / "app", tmp_path / "gone"
    app.mkdir()
    gone.mkdir()
    monkeypatch.setattr("hostvm.agent.client.agent_is_ready", lambda _: True)
    monkeypatch.setattr("hostvm.shares.client.shared_mounts", lambda _: [Mount(str(app), str(app))])
    ran = []
    monkeypatch.setattr(engine_words, "_forward", lambda _, argv, **__: ran.append(argv) or 0)
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert engine_words._run_in_guest("box", ("docker",), ["build", str(app)]) == 0
    assert ran[0][-3:] == ["docker", "build", "."], "it is carried: the guest has no such working folder"


@pytest.fixture
def forwarded_by_docker(forwarded, monkeypatch):
    """The same of a machine of dockerd, with the guest's client."""
    monkeypatch.setattr(engine_words, "engine_of", lambda _: "docker")
    monkeypatch.setattr(engine_words, "find_host_client", lambda _: None)
    return forwarded


def test_settings_of_ones_own_hide_no_build(forwarded_by_docker, shared, tmp_path, monkeypatch):
    """The folder was looked for in the guest."""
    monkeypatch.chdir(tmp_path)
    settings = tmp_path.parent / "settings"
    shared.append(str(settings))
    assert run(f"docker --config {settings} build -t web .") == 0
    assert forwarded_by_docker.argv[0][4:] == ["docker", "--config", str(settings), "build", "-t", "web", "."]


def test_a_variable_that_does_not_travel_is_told_where_it_is_named(forwarded_by_docker, monkeypatch):
    monkeypatch.setenv("USER", "ann")
    assert run("docker run -e USER busybox env") == 0
    assert forwarded_by_docker.argv == [["docker", "run", "-e", "USER=ann", "busybox", "env"]]
    assert "USER" not in forwarded_by_docker.env[0]


def test_compose_knows_whose_home_is_meant(forwarded_by_docker, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    assert run("compose ps") == 0
    assert forwarded_by_docker.env[0]["HOME"] == "/home/ann"
    assert run("docker ps") == 0
    assert "HOME" not in forwarded_by_docker.env[1]


@pytest.mark.parametrize(
    ("line", "collects"),
    [
        ("docker ps", "400"),
        ("docker --debug container ls -a", "400"),
        ("docker image inspect web", "400"),
        ("docker pull busybox", "400"),
        ("docker run --rm -e GOGC busybox env", None),
        ("docker exec -e GOGC web env", None),
        ("docker build --build-arg GOGC -", None),
        ("docker buildx ls", None),
        ("compose ps", None),
        ("docker compose ps", None),
    ],
)
def test_a_look_of_the_guests_client_does_not_stop_for_garbage(line, collects, forwarded_by_docker, monkeypatch):
    """What may hand variables on gets none that the user did not set."""
    monkeypatch.delenv("GOGC", raising=False)
    assert run(line) == 0
    assert forwarded_by_docker.env[0].get("GOGC") == collects


def test_the_users_own_word_on_garbage_counts(forwarded_by_docker, monkeypatch):
    monkeypatch.setenv("GOGC", "50")
    assert run("docker ps") == 0
    assert forwarded_by_docker.env[0]["GOGC"] == "50"
