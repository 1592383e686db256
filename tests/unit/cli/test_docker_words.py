import pytest

from cli.docker_words import draws, names_engine, plan, reads_input, starts, wants_terminal

ALL = (True, True, True)


@pytest.mark.parametrize(
    "line",
    [
        "run -it alpine",
        "run -ti alpine sh",
        "run --rm -it --name web alpine",
        "run -i -t alpine",
        "run --tty alpine",
        "run --tty=true alpine",
        "run -itv /a:/b alpine",
        "run -v /a:/b -t alpine",
        "run -e A=1 --env B -p 80:80 -it alpine",
        "container run -it alpine",
        "exec -it web bash",
        "exec -e A -it web bash",
        "-H tcp://x exec -it web sh",
        "--context other run -t alpine",
        "start -ai web",
        "start -a web",
        "attach web",
        "attach --no-stdin web",
        "compose exec web sh",
        "compose run web sh",
        "compose -f other.yaml run --rm web",
        "compose --profile p exec web sh",
        "create -it alpine",
        "run --attach stdout -t alpine",
        # Podman's switches, which take no value.
        "run --replace -it --name web alpine",
        "run --rmi --tls-verify -it alpine",
        "create --no-hosts --env-host -t alpine",
        "exec --latest -it sh",
        "exec -l -it sh",
        "exec -lit sh",
    ],
)
def test_terminal_wanted(line):
    assert wants_terminal(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "run alpine",
        "run -i alpine cat",
        "run -d alpine",
        "run alpine ls -t",
        "run --name -it alpine",
        "run -v -t alpine",
        "run -e -t alpine",
        "run -w -t alpine",
        "run -l -t alpine",
        "run -t=false alpine",
        "run --tty=false alpine",
        "run -eT alpine",
        "exec web sh -it",
        "ps -t",
        "",
        "--help",
        "start web",
        "logs -t web",
        "build -t name .",
        "compose exec -T web sh",
        "compose run -d web",
        "compose run -d web cat -",
        "compose up",
        "image ls -t",
        "run -- -t",
    ],
)
def test_terminal_not_wanted(line):
    assert not wants_terminal(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "run -i alpine cat",
        "run --interactive alpine",
        "run -d=false -i alpine",
        "run --detach=false -i alpine",
        "exec -i web ls -d",
        "run -it alpine",
        "exec -i web cat",
        "load",
        "image load",
        "import -",
        "build -",
        "login --password-stdin",
        "system prune",
        "container prune",
        "cp - web:/",
        "compose exec web sh",
        "compose -f - up",
        "compose -f- up",
        "compose --file=- up -d",
        "compose -f=- config",
        "compose -f /dev/stdin pull",
        "compose -f - ps",
        "compose -f - run -d web",
        "build -f- .",
        "build --file=- .",
        "build -o - -",
        "buildx build --secret id=x,src=/dev/stdin .",
        "buildx bake",
        "config create -l a=b name -",
        "stack deploy -c - s",
        "load -i /dev/stdin",
        "secret create name -",
        "start -i web",
        "attach web",
        "rm-unknown-verb",
    ],
)
def test_input_read(line):
    assert reads_input(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "run alpine",
        "run -d alpine",
        "run -dit alpine",
        "run -itd --name web alpine",
        "run --detach --interactive alpine",
        "container run -i -d alpine",
        "exec -di web sh",
        "create -it --name web alpine",
        "create -i alpine cat -",
        "exec web true",
        "exec web cat -i",
        "ps",
        "container ls",
        "images",
        "logs -f web",
        "rm -f web",
        "pull alpine",
        "compose up -d",
        "compose ps",
        "compose run -d web",
        "start web",
        "version",
        "network inspect n",
        # Each of a list that a loop reads: `while read name; do docker ... $name; done < names`.
        "network connect n web",
        "network disconnect n web",
        "service ps web",
        "service create --name web nginx",
        "service scale web=2",
        "node inspect n",
        "node promote n",
        "stack services s",
        "secret inspect s",
        "secret create s file",
        "config rm c",
        "manifest inspect m",
        "buildx imagetools inspect m",
        "buildx --builder mine build .",
        "buildx --builder mine ls",
        "buildx ls",
        "builder du",
        "build .",
        "build -t x-y .",
        "build -o - .",
        "build --output=type=tar,dest=- .",
        "buildx build -o- .",
        "buildx build -f Dockerfile.dev .",
        "image build .",
        "cp web:/a b",
        "container cp a web:/b",
        "compose cp web:/a b",
        "compose -f a.yaml config",
        "load -i a.tar",
        "image load -qi a.tar",
        "load --input=a.tar",
        "import a.tar",
        "attach --no-stdin web",
        "context use c",
        "system df",
    ],
)
def test_input_left_alone(line):
    assert not reads_input(line.split())


def test_plan_interactive():
    assert plan(["run", "-it", "alpine"], ALL) == (True, True)
    assert plan(["run", "-it", "alpine"], (True, True, False)) == (True, True)
    assert plan(["run", "-it", "alpine"], (False, True, True)) == (False, True)
    assert plan(["run", "-t", "alpine"], ALL) == (True, True), "its keys are needed for Ctrl-C"


def test_plan_drawing():
    assert plan(["pull", "alpine"], ALL) == (True, False)
    assert plan(["pull", "alpine"], (True, True, False)) == (False, False)
    assert plan(["compose", "up"], ALL) == (True, False)
    assert plan(["ps"], ALL) == (False, False)
    assert plan(["login"], ALL) == (True, True), "the password is not to be shown"


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("--context prod run web", True),
        ("-H tcp://prod ps", True),
        ("-D --host=ssh://prod ps", True),
        ("-H unix:///var/run/docker.sock run web", False),
        ("--host=unix:///var/run/docker.sock run web", False),
        ("--log-level debug run -c 2 -h host web", False),
        ("run web --context prod", False),
        ("ps", False),
    ],
)
def test_another_engine_that_is_named(line, other):
    assert names_engine(line.split()) is other


@pytest.mark.parametrize("line", ["build .", "image build .", "buildx build .", "image pull x", "compose build"])
def test_draws(line):
    assert draws(line.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "-d", "web"], True),
        (["container", "start", "web"], True),
        (["compose", "-f", "x.yml", "up", "-d"], True),
        (["ps"], False),
        (["exec", "web", "run"], False),
        (["compose", "run", "web"], True),
        (["logs", "start"], False),
    ],
)
def test_commands_that_start_containers(words, expected):
    assert starts(words) is expected
