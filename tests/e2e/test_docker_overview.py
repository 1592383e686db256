"""What Docker's overview says of hosts, images and containers, proved against a live guest: a test per statement.

The other themes are beside this file: test_docker_overview_options.py, ..._registry.py, ..._two_machines.py.
"""

from __future__ import annotations

import platform
from pathlib import Path

import docker
import pytest
from machines import eventually, succeed

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

FOREVER = ("sleep", "3600")
# Ends with its own status when it is told to stop, so an orderly stop can be told from a kill.
OBEDIENT = ("sh", "-c", 'trap "exit 7" TERM; echo up; while :; do sleep 3600 & wait; done')


def os_release(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: value.strip('"') for key, _, value in pairs}


# ---- host and guest ------------------------------------------------------------------------------------------


def test_host_and_guest_are_different_systems(machine):
    guest = os_release(machine.shell("cat", "/etc/os-release"))
    assert (guest["ID"], guest["VERSION_ID"]) == ("debian", "13")
    assert machine.shell("uname", "-s") == "Linux"
    assert machine.shell("uname", "-n") == machine.name != platform.node()
    if platform.system() != "Linux":
        return
    here = os_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    assert machine.boot_id() != Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    if (here["ID"], here.get("VERSION_ID")) != ("debian", "13"):  # where it is, they may well be equal
        assert machine.shell("uname", "-r") != platform.release()
        assert guest["PRETTY_NAME"] != here["PRETTY_NAME"]


def test_containers_share_the_guests_kernel(box, residents):
    kernel = "uname -r; cat /proc/sys/kernel/random/boot_id"
    guest = box.shell("sh", "-c", kernel)
    assert len(guest.splitlines()) == 2
    for name in residents.values():
        assert box.docker("exec", name, "sh", "-c", kernel) == guest


def test_containers_run_in_the_guests_user_space(box, residents):
    pid = box.container(residents["busybox"])["State"]["Pid"]
    look = f"tr '\\0' ' ' < /proc/{pid}/cmdline; echo; readlink /proc/{pid}/ns/mnt /proc/{pid}/ns/pid"
    command, mounts, pids = box.shell("sh", "-c", look).splitlines()
    assert command.strip() == "sleep 3601"  # an ordinary process of the guest...
    own = box.shell("readlink", "/proc/1/ns/mnt", "/proc/1/ns/pid").splitlines()
    assert mounts != own[0]  # ...with a view of files and processes of its own
    assert pids != own[1]


def test_different_linux_systems_side_by_side(box, residents):
    assert {box.state(name) for name in residents.values()} == {"running"}
    look = "cat /etc/os-release 2>/dev/null; ls -1 /usr/bin/dpkg /bin/bash 2>/dev/null; busybox | head -n 1; true"
    debian = box.docker("exec", residents["debian"], "sh", "-c", look)
    small = box.docker("exec", residents["busybox"], "sh", "-c", look)
    assert os_release(debian)["VERSION_CODENAME"] == "trixie"
    assert debian.splitlines()[-2:] == ["/bin/bash", "/usr/bin/dpkg"]
    assert "BusyBox" in small
    assert "dpkg" not in small
    assert "bash" not in small


# ---- client and daemon ---------------------------------------------------------------------------------------


def test_client_on_this_computer_and_daemon_in_the_guest(box, host_client, unique, tmp_path):
    name = unique("far")
    file = tmp_path / "only here.txt"
    file.write_text("read on this computer\n", encoding="utf-8")
    box.docker("create", "--name", name, "busybox", "cat", "/there.txt", env=host_client)
    box.docker("cp", str(file), f"{name}:/there.txt", env=host_client)  # only a client here sees the file
    assert box.docker("start", "-a", name, env=host_client) == "read on this computer"
    daemon = box.docker("info", "--format", "{{.Name}} {{.KernelVersion}}", env=host_client)
    assert daemon == f"{box.name} {box.shell('uname', '-r')}"


def test_the_engine_warns_of_nothing(box):
    facts = box.sdk.info()
    assert not facts.get("Warnings")
    assert (facts["Driver"], facts["CgroupVersion"], facts["LoggingDriver"]) == ("overlay2", "2", "json-file")
    assert "WARNING" not in box.try_docker("info").both


def test_a_containers_log_does_not_fill_the_disk(box, unique):
    name = unique("talks")
    box.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "head -c 13m /dev/zero | tr '\\0' x | fold -w 9000")
    assert box.docker("wait", name) == "0"
    path = box.container(name)["LogPath"]
    sizes = box.shell("sh", "-c", f"stat -c %s {path} {path}.1").split()
    assert len(sizes) == 2
    assert all(int(size) <= 10 * 1000**2 + 32 * 1024 for size in sizes), sizes


# ---- images --------------------------------------------------------------------------------------------------


def test_image_is_a_read_only_template(box, residents, unique):
    before = box.image("busybox")
    writer = unique("writer")
    box.docker("run", "--name", writer, "busybox", "sh", "-c", "rm /bin/wget; echo new > /new")
    assert {"/bin/wget", "/new"} <= {change["Path"] for change in box.sdk.api.diff(writer)}
    look = "ls /new 2>/dev/null; [ -e /bin/wget ] && echo whole"
    assert box.docker("exec", residents["busybox"], "sh", "-c", look) == "whole"  # another container of this image
    assert box.docker("run", "--rm", "busybox", "sh", "-c", look) == "whole"  # and one made of it later
    after = box.image("busybox")
    assert (after["Id"], after["RootFS"], after["Created"]) == (before["Id"], before["RootFS"], before["Created"])


def test_guest_client_builds_a_folder_of_this_computer(box, unique, tmp_path):
    tag = unique("folder")
    (tmp_path / "with space").mkdir()
    (tmp_path / "with space" / "größe.txt").write_text("carried\n", encoding="utf-8")
    (tmp_path / "left.out").write_text("not carried\n", encoding="utf-8")
    (tmp_path / ".dockerignore").write_text("*.out\n", encoding="utf-8")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY . /all\n")
    box.docker("build", "-q", "-t", tag, str(tmp_path))
    container = box.docker("create", tag)
    assert box.holds(container, "/all/with space/größe.txt") == "carried\n"
    assert box.holds(container, "/all/left.out") is None


def test_guest_client_builds_of_a_second_folder(box, unique, tmp_path):
    """`--build-context`: as the folder itself, and what its own list leaves out is not carried."""
    tag, first, second = unique("second"), tmp_path / "first", tmp_path / "the second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    (second / "left.out").touch()
    (second / ".dockerignore").write_text("*.out\n")
    (first / "Dockerfile").write_text("FROM busybox\nCOPY file /one\nCOPY --from=other . /two/\n")
    box.docker("build", "-q", "-t", tag, "--build-context", f"other={second}", str(first))
    container = box.docker("create", tag)
    assert [box.holds(container, path) for path in ("/one", "/two/file")] == ["first", "the second"]
    assert box.holds(container, "/two/left.out") is None


CUSTOMISED = """\
FROM busybox AS workshop
RUN mkdir /out && echo 'made in the workshop' > /out/product && echo scrap > /scrap

FROM busybox
RUN echo 'worker:x:4711:4711::/srv:/bin/sh' >> /etc/passwd
COPY --from=workshop /out/product /srv/product
COPY notes.txt /srv/
ENV COLOUR=green
EXPOSE 8080/tcp
WORKDIR /srv
USER worker
HEALTHCHECK --interval=1s --timeout=30s --retries=1 CMD test -s /srv/product
CMD ["sh", "-c", "cat product notes.txt; echo $COLOUR; id -u; exec sleep 3600"]
"""


@pytest.fixture(scope="module")
def customised(machine, tmp_path_factory):
    """An image with every common instruction; (its folder, its name)."""
    folder = tmp_path_factory.mktemp("customised")
    (folder / "Dockerfile").write_text(CUSTOMISED)
    (folder / "notes.txt").write_text("notes\n")
    with machine.clean():
        machine.docker("build", "-q", "-t", "customised:first", str(folder))
        yield folder, "customised:first"


def test_image_is_made_from_a_dockerfile(box, customised):
    """Its history is the Dockerfile's last stage, read upwards."""
    history = box.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", customised[1]).splitlines()
    words = ["CMD", "HEALTHCHECK", "USER", "WORKDIR", "EXPOSE", "ENV", "COPY", "COPY", "RUN"]
    assert [line.split()[0] for line in history[: len(words)]] == words
    assert "echo 'worker:x:4711:4711::/srv:/bin/sh' >> /etc/passwd" in history[len(words) - 1]


def test_image_is_based_on_another_with_customisation(box, customised):
    base, image = box.image("busybox"), box.image(customised[1])
    count = len(base["RootFS"]["Layers"])
    assert image["RootFS"]["Layers"][:count] == base["RootFS"]["Layers"]
    assert len(image["RootFS"]["Layers"]) > count
    config = image["Config"]
    assert "COLOUR=green" in config["Env"]
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert (config["WorkingDir"], config["User"]) == ("/srv", "worker")
    assert config["Cmd"][:2] == ["sh", "-c"]
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "test -s /srv/product"]


@pytest.fixture(scope="module")
def shaped(machine, customised):
    """A running container of that image."""
    machine.docker("run", "-d", "--name", "shaped", customised[1])
    return "shaped"


def test_dockerfile_instructions_shape_the_container(box, shaped):
    lines = ["made in the workshop", "notes", "green", "4711"]
    eventually(lambda: box.docker("logs", shaped).splitlines() == lines, f"the log says {lines}")


def test_multi_stage_build_keeps_only_the_last_stage(box, shaped):
    found = box.docker("exec", shaped, "sh", "-c", "ls /srv; ls -d /scrap /out 2>/dev/null; true")
    assert found.splitlines() == ["notes.txt", "product"]


def test_healthcheck_reports_a_containers_health(box, shaped):
    def health() -> str:
        return str(box.container(shaped)["State"]["Health"]["Status"])

    eventually(lambda: health() == "healthy", "healthy")
    box.docker("exec", "-u", "root", shaped, "rm", "/srv/product")
    eventually(lambda: health() == "unhealthy", "unhealthy")
    box.docker("rm", "-f", shaped)  # its checks would go on for all tests to come


def test_layers_are_cached_on_rebuild(box, customised):
    folder, first = customised
    (folder / "notes.txt").write_text("other notes\n")
    log = box.try_docker("build", "--progress=plain", "-t", "customised:second", str(folder))
    succeed(log)
    steps = {line.split(" ", 1)[0]: line for line in log.both.splitlines() if "] RUN " in line or "] COPY " in line}
    done = {number: f"{number} CACHED" in log.both for number in steps}
    verdicts = {line.split("] ", 1)[1]: done[number] for number, line in steps.items()}
    assert verdicts["RUN echo 'worker:x:4711:4711::/srv:/bin/sh' >> /etc/passwd"]
    assert verdicts["COPY --from=workshop /out/product /srv/product"]
    assert not verdicts["COPY notes.txt /srv/"]  # its file changed, so it ran again
    old, new = (box.image(name)["RootFS"]["Layers"] for name in (first, "customised:second"))
    assert new != old


def test_layers_are_shared_between_images(box, residents, unique):
    """The engine keeps a layer once, however many images have it."""
    tag = unique("sharing")
    box.docker("commit", residents["debian"], tag)
    usage = box.sdk.df()
    rows = {name: row for row in usage["Images"] for name in row["RepoTags"] or ()}
    base, derived = rows["debian:trixie"], rows[f"{tag}:latest"]
    assert base["Size"] > 20_000_000
    assert base["Size"] <= derived["Size"] < base["Size"] + 100_000  # each counts all its layers...
    assert derived["SharedSize"] == base["Size"]  # ...of which one is new
    assert usage["LayersSize"] < base["Size"] + derived["Size"]


def test_new_image_from_a_containers_current_state(box, unique):
    name, tag = unique("worked"), unique("kept")
    box.docker("run", "--name", name, "busybox", "sh", "-c", "echo result > /result")
    box.docker("commit", "-m", "worked on", "--change", 'CMD ["cat", "/result"]', name, tag)
    assert box.docker("run", "--rm", tag) == "result"
    base, image = box.image("busybox"), box.image(tag)
    assert image["Comment"] == "worked on"
    assert image["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]  # one layer more: the container's own


# ---- containers ----------------------------------------------------------------------------------------------


def test_container_is_created(box, unique):
    name = unique("created")
    box.docker("create", "--name", name, "busybox", *FOREVER)
    found = box.container(name)
    assert (found["State"]["Status"], found["State"]["Pid"]) == ("created", 0)


def test_container_is_started(box, unique):
    name = unique("started")
    box.docker("create", "--name", name, "busybox", *FOREVER)
    assert box.docker("start", name) == name
    assert box.state(name) == "running"
    assert box.docker("exec", name, "pidof", "sleep") == "1"


def test_container_is_stopped(box, unique):
    name = unique("stopped")
    box.docker("run", "-d", "--name", name, "busybox", *OBEDIENT)
    eventually(lambda: "up" in box.docker("logs", name), "the program has set its trap")
    box.docker("stop", name)
    state = box.container(name)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)  # it was asked, not killed


def test_container_is_restarted(box, unique):
    name = unique("restarted")
    box.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "echo run >> /runs; exec sleep 3600")
    before = box.container(name)
    box.docker("restart", "-t", "0", name)
    after = box.container(name)
    assert after["Id"] == before["Id"]
    assert after["State"]["Status"] == "running"
    assert after["State"]["StartedAt"] > before["State"]["StartedAt"]
    eventually(lambda: box.holds(name, "/runs") == "run\nrun\n", "its writable layer holds both starts")


def test_container_is_paused(box, unique):
    name = unique("paused")
    box.docker("run", "-d", "--name", name, "busybox", *FOREVER)
    events = f"{box.cgroup(name)}/cgroup.events"
    box.docker("pause", name)
    assert box.state(name) == "paused"
    assert "frozen 1" in box.shell("cat", events).splitlines()
    box.docker("unpause", name)
    assert box.state(name) == "running"
    assert "frozen 0" in box.shell("cat", events).splitlines()


def test_container_is_renamed(box, unique):
    old, new = unique("old"), unique("new")
    made = box.docker("create", "--name", old, "busybox", "true")
    box.docker("rename", old, new)
    assert box.container(new)["Id"] == made
    assert "No such container" in box.try_docker("start", old).err


def test_container_is_deleted(box, unique):
    name = unique("deleted")
    box.docker("run", "-d", "--name", name, "busybox", *FOREVER)
    refused = box.try_docker("rm", name)
    assert refused.status == 1
    assert "is running" in refused.err
    box.docker("rm", "-f", name)
    assert box.docker("ps", "-aq", "--filter", f"name={name}") == ""
    with pytest.raises(docker.errors.NotFound):
        box.container(name)


def test_containers_through_the_command_line(box, unique):
    """One foreground run: input, both outputs and the exit status are the program's own."""
    program = "read line; echo out $line; echo err $line >&2; exit 42"
    done = box.try_docker("run", "-i", "--rm", "--name", unique("cli"), "busybox", "sh", "-c", program, stdin="hello\n")
    assert (done.status, done.out, done.err) == (42, "out hello\n", "err hello\n")


def test_containers_through_the_api(box, unique):
    name, renamed = unique("api"), unique("api")
    made = box.sdk.containers.create("busybox", ["sh", "-c", "echo hello; exec sleep 3600"], name=name)
    assert made.status == "created"
    made.start()
    made.reload()
    assert made.status == "running"
    eventually(lambda: made.logs() == b"hello\n", "its output is in the log")
    assert made.exec_run(["sh", "-c", "echo out; exit 3"]) == (3, b"out\n")
    made.pause()
    assert box.state(name) == "paused"
    made.unpause()
    made.rename(renamed)
    assert box.docker("ps", "--filter", f"name={renamed}", "--format", "{{.Names}}") == renamed  # both see one engine
    made.stop(timeout=0)
    assert made.wait()["StatusCode"] == 137
    made.remove()
    with pytest.raises(docker.errors.NotFound):
        box.sdk.containers.get(renamed)


def test_container_is_defined_by_its_image_and_options(box, unique):
    name = unique("defined")
    limits = ("--memory", "64m", "--cpus", "0.5", "--restart", "on-failure:3")
    looks = ("-e", "COLOUR=blue", "--label", "kind=test", "--hostname", "inside", "-w", "/tmp", "-u", "65534")
    box.docker("create", "--name", name, *limits, *looks, "-p", "127.0.0.1::80", "busybox", "echo", "two words")
    found, image = box.inspect(name), box.image("busybox")
    config, host = found["Config"], found["HostConfig"]
    assert found["Image"] == image["Id"]
    assert (config["Image"], config["Cmd"]) == ("busybox", ["echo", "two words"])
    assert "COLOUR=blue" in config["Env"]
    assert (config["Labels"], config["Hostname"]) == ({**image["Config"]["Labels"], "kind": "test"}, "inside")
    assert (config["WorkingDir"], config["User"]) == ("/tmp", "65534")
    assert (host["Memory"], host["NanoCpus"]) == (64 << 20, 500_000_000)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}


def test_removal_loses_state_that_is_not_persistent(box, unique):
    name = unique("forgetful")
    box.docker("run", "--name", name, "busybox", "sh", "-c", "echo kept > /state")
    assert box.holds(name, "/state") == "kept\n"
    layer = box.container(name)["GraphDriver"]["Data"]["UpperDir"]
    assert box.shell("cat", f"{layer}/state") == "kept"
    box.docker("rm", name)
    box.docker("create", "--name", name, "busybox", "true")
    assert box.holds(name, "/state") is None
    assert box.shell("sh", "-c", f"[ -e {layer} ] || echo gone") == "gone"


def test_volume_stays_when_its_container_is_removed(box, unique):
    name, volume = unique("passing"), unique("lasting")
    box.docker("run", "--name", name, "-v", f"{volume}:/data", "busybox", "sh", "-c", "echo kept > /data/state")
    box.docker("rm", name)
    assert box.docker("volume", "ls", "-q", "--filter", f"name={volume}") == volume
    box.docker("create", "--name", name, "-v", f"{volume}:/elsewhere", "busybox", "true")
    assert box.holds(name, "/elsewhere/state") == "kept\n"
