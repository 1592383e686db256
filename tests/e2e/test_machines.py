"""Machines as a user keeps them: side by side, stopped, restarted, looked at, spoken to."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import urllib.request
from pathlib import Path

import pytest
from machines import HOSTVM, eventually, folders_of, hostvm, processes_of, run, running_machine, succeed
from servers import make_authority

from images.origins import ORIGINS

pytestmark = pytest.mark.vm

AWKWARD = [
    "",
    " ",
    "a b",
    "it's",
    '"quoted"',
    "$HOME",
    "`id`",
    "back\\slash",
    "new\nline",
    "tab\t",
    "*",
    "-n",
    "é✓",
    "--",
]

DEPMOD_AGAIN = r"""
set -e
here=/usr/lib/modules/$(uname -r) again=/var/tmp/depmod/lib/modules/$(uname -r)
rm -rf /var/tmp/depmod
mkdir -p "$again"
for kept in kernel modules.order modules.builtin modules.builtin.modinfo; do ln -s "$here/$kept" "$again/"; done
/usr/sbin/depmod -a -b /var/tmp/depmod "$(uname -r)"
[ "$(ls "$here")" = "$(ls "$again")" ] || echo "other files: $(ls "$again")"
for file in "$again"/modules.*; do
    name=${file##*/}
    if [ "$name" = modules.symbols ]; then # in the order of a hash table, which nothing reads
        sort "$file" > /var/tmp/depmod/real
        sort "$here/$name" > /var/tmp/depmod/ours
    else
        cat "$file" > /var/tmp/depmod/real
        cat "$here/$name" > /var/tmp/depmod/ours
    fi
    cmp /var/tmp/depmod/real /var/tmp/depmod/ours && echo "same: $name"
done
rm -r /var/tmp/depmod
"""


def test_an_argv_travels_exactly(machine):
    shown = machine.shell("sh", "-c", 'for word do printf "[%s]" "$word"; done', "sh", *AWKWARD)
    assert shown == "".join(f"[{word}]" for word in AWKWARD)


def test_bytes_travel_unchanged_and_outputs_stay_apart(machine):
    data = bytes(range(256)) * 4096
    words = [str(HOSTVM), "-m", machine.name, "shell", "--", "sh", "-c", "cat; echo aside >&2; exit 7"]
    done = subprocess.run(words, input=data, capture_output=True, check=False, timeout=60)
    assert done.stdout == data
    assert done.stderr == b"aside\n"
    assert done.returncode == 7


def test_a_signals_status_is_128_and_its_number(machine):
    assert hostvm("-m", machine.name, "shell", "--", "sh", "-c", "kill -KILL $$").status == 137


def test_what_status_ls_and_inspect_tell(machine):
    facts = json.loads(succeed(hostvm("status", machine.name, "--json")))
    assert (facts["name"], facts["status"], facts["cpus"]) == (machine.name, "running", 2)
    assert facts["memory"] == 2 << 30
    listed = {entry["name"]: entry for entry in json.loads(succeed(hostvm("ls", "--json")))}
    assert listed[machine.name]["ssh_port"] == facts["ssh_port"]
    known = json.loads(succeed(hostvm("inspect", machine.name)))
    assert known["wanted"]["memory"] == facts["memory"]
    assert known["made"]["image"].startswith("sha256:")
    assert known["observed"]["agent"]["ready"] is True
    head, *rows = succeed(hostvm("ls")).splitlines()
    assert head.split()[:2] == ["NAME", "STATUS"]
    assert [machine.name, "running"] in [row.split()[:2] for row in rows]
    assert machine.name in succeed(hostvm("ls", "-q")).splitlines()
    assert "running" in succeed(hostvm("status", machine.name))


def test_env_is_what_eval_needs(machine, host_client):
    script = f'eval "$({HOSTVM} env {machine.name})" && docker version --format "{{{{.Server.Version}}}}"'
    done = run("sh", "-c", script, env=host_client)
    assert succeed(done) == machine.docker("version", "--format", "{{.Server.Version}}")
    undone = run(
        "sh", "-c", f'eval "$({HOSTVM} env {machine.name})"; eval "$({HOSTVM} env {machine.name} --unset)"; env'
    )
    assert "DOCKER_HOST" not in undone.out


def test_private_things_are_private(machine):
    folder, run_dir = folders_of(machine.name)
    for place in (folder, run_dir, folder / "keys"):
        assert place.stat().st_mode & 0o077 == 0, place
    for file in [*run_dir.glob("*.sock"), *(folder / "keys").iterdir(), folder / "state.json"]:
        assert file.stat().st_mode & 0o077 == 0, file


def test_logs_show_console_and_agent(machine):
    shown = succeed(hostvm("logs", machine.name, "--console", "-n", "500"))
    assert "Server listening" in shown
    assert "ready" in succeed(hostvm("logs", machine.name, "--agent"))


def test_a_killed_agent_is_replaced_by_the_next_start(machine, free_port):
    machine.docker("run", "-d", "--name", "kept", "-p", f"{free_port}:80", "busybox", "httpd", "-f", "-h", "/etc")
    agent = json.loads(succeed(hostvm("status", machine.name, "--json")))["agent"]["pid"]
    os.kill(agent, 9)
    boot = machine_boot(machine)
    assert boot == machine.boot_id(), "the guest was not touched"
    page = eventually(lambda: fetch(free_port), "the port is back", 30)
    assert b"root:" in page
    machine.docker("rm", "-f", "kept")


def machine_boot(machine) -> str:
    """The kernel's boot id after hostvm has healed itself."""
    succeed(hostvm("start", machine.name))
    return machine.boot_id()


def fetch(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/passwd", timeout=10) as answer:
            return answer.read()
    except OSError:
        return b""


def proxies_of(own) -> str:
    """What the guest's programs and its docker client know of proxies."""
    return own.shell("sh", "-c", "env | grep -i _proxy; grep -i proxy ~/.docker/config.json; true")


def trusts(own, authority: Path) -> bool:
    """Whether it is in the bundle that the guest's programs and its engine believe."""
    return authority.read_text().split("\n")[1] in own.shell("cat", "/etc/ssl/certs/ca-certificates.crt")


def test_restart_keeps_images_containers_and_identity(unique, tmp_path_factory):
    tmp_path, authority = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("ca") / "host.pem"
    make_authority(authority.parent, authority.stem)
    (tmp_path / "mark").write_text("of this computer")
    sizes = ("--cpus", "1", "--memory", "1GiB", "--mount", "none")
    with running_machine(unique("life")[:24], *sizes, shares=[("9p", f"{tmp_path}:/root")]) as own:
        assert own.shell("cat", "/root/mark") == "of this computer"
        own.shell("sh", "-c", "touch ~/of-the-guest")
        own.hostvm("image", "base", "busybox:latest")
        own.docker("run", "--name", "one", "busybox", "sh", "-c", "echo kept > /note")
        polite = "trap 'exit 3' TERM; sleep 1000 & wait"  # what looks at itself again and again slows an emulated guest
        own.docker("run", "-d", "--name", "polite", "busybox", "sh", "-c", polite)
        before = json.loads(succeed(hostvm("inspect", own.name)))
        first_boot = own.boot_id()
        assert proxies_of(own) == ""
        refused = hostvm("restart", own.name, env={"HTTP_PROXY": "http://proxy:port"})
        assert (refused.status, own.boot_id()) == (2, first_boot), refused.err
        assert not trusts(own, authority)
        here = {"https_proxy": "http://[::1]:9/?odd='%20$x", "SSL_CERT_FILE": str(authority)}
        succeed(hostvm("restart", own.name, env=here))
        assert trusts(own, authority), "what this computer trusts the guest does"
        assert proxies_of(own).count("http://10.0.2.2:9/?odd='%20$x") == 3, "upper case, lower case, client"
        assert own.shell("cat", "/root/mark") == "of this computer", "the guest's own /root is under it"
        own.shell("sh", "-c", "test -e ~/of-the-guest")
        assert [path.name for path in tmp_path.iterdir()] == ["mark"], "root's own home is not this computer's"
        after = json.loads(succeed(hostvm("inspect", own.name)))
        assert own.boot_id() != first_boot
        assert after["made"] == before["made"], "identity, ports and image are kept"
        assert own.docker("cp", "one:/note", "-").find("kept") > 0
        assert own.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "polite") == "exited 3"
        stopped = hostvm("stop", own.name)
        assert stopped.status == 0
        assert json.loads(hostvm("status", own.name, "--json").out)["status"] == "stopped"
        assert "cutting its power" not in stopped.err, "the guest powered itself off"
        assert list(Path(folders_of(own.name)[1]).glob("*.sock")) == []
        eventually(lambda: processes_of(own.name) == [], "no helper of it is left")
        assert "was stopped already" in hostvm("stop", own.name).err
        start_four_times_at_once(own.name)
        assert proxies_of(own) == "", "the next start knows of no proxy"
        assert not trusts(own, authority)
        assert "one" in own.docker("ps", "-a", "--format", "{{.Names}}")
        a_killed_engine_starts_again_what_it_ran(own)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of this computer"], "nor does rm take what was shared"


def a_killed_engine_starts_again_what_it_ran(own) -> None:
    """Each container ends by its own signal first; by restart policy it runs again, or does not."""
    # Not by its output: nobody reads that while there is no engine.
    polite = "trap 'echo ended in order >> /said; exit 0' USR1; echo up >> /said; sleep 1000 & wait"
    for name, policy in (("returns", "unless-stopped"), ("ends", "no"), ("by-hand", "unless-stopped")):
        words = ("--stop-signal", "USR1", "--restart", policy, "busybox", "sh", "-c", polite)
        own.docker("run", "-d", "--name", name, *words)
    own.docker("stop", "by-hand")
    own.shell("sh", "-c", "rm /run/hostvm/marks/engine; kill -9 $(pidof dockerd)")
    eventually(lambda: own.shell("sh", "-c", "cat /run/hostvm/marks/engine || true"), "the engine is back", 90)
    said = ("docker", "exec", "returns", "cat", "/said")
    eventually(lambda: hostvm("-m", own.name, *said).out == "up\nended in order\nup\n", "it runs again", 60)
    assert "up\nended in order\n\0" in own.docker("cp", "ends:/said", "-")
    assert [own.container(name)["State"]["Status"] for name in ("ends", "by-hand")] == ["exited", "exited"]


def start_four_times_at_once(name: str) -> None:
    """One start wins, the others wait for it and succeed; who looks meanwhile sees a machine."""
    words = [HOSTVM, "start", name]
    starts = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    seen = set()

    def are_over() -> bool:
        seen.update(row["status"] for row in json.loads(succeed(hostvm("ls", "--json"))) if row["name"] == name)
        return all(start.poll() is not None for start in starts)

    try:
        eventually(are_over, "all of them have ended", 240)
    finally:
        for start in starts:
            start.kill()
    said = [start.communicate()[1] for start in starts]
    assert [start.returncode for start in starts] == [0] * 4, said
    assert sum("was running already" in text for text in said) == 3, said
    assert not seen & {"broken", "crashed"}, seen
    assert len(processes_of(name, "qemu-system")) == len(processes_of(name, "cli.agent_main")) == 1


def test_images_are_listed_told_and_kept_while_a_machine_needs_them(machine):
    used = json.loads(succeed(hostvm("inspect", machine.name)))["made"]["image"]
    listed = {entry["digest"]: entry for entry in json.loads(succeed(hostvm("image", "ls", "--json")))}
    assert machine.name in listed[used]["machines"]
    assert listed[used]["size"] == sum(file.stat().st_size for file in parts(Path(listed[used]["path"])))
    assert used.removeprefix("sha256:")[:12] in succeed(hostvm("image", "ls"))
    told = json.loads(succeed(hostvm("image", "inspect", used)))
    assert "docker.io" in {package["name"] for package in told["manifest"]["packages"]}
    refused = hostvm("image", "rm", used)
    assert refused.status == 1
    assert machine.name in refused.err
    assert Path(listed[used]["path"]).is_dir()


def parts(folder: Path) -> list[Path]:
    """Of an image, without the notes that a build leaves beside it."""
    return [file for file in folder.iterdir() if file.name not in ("manifest.json", ORIGINS)]


def test_the_doctor_finds_a_running_machine_well_and_tells_it_whole(machine, tmp_path):
    bundle = tmp_path / "doctor.tar.gz"
    done = hostvm("doctor", machine.name, "--json", "--bundle", str(bundle))
    found = {(entry["area"], entry["name"]): entry for entry in json.loads(done.out)}
    own = {name: entry["level"] for (area, name), entry in found.items() if area == machine.name}
    assert own == dict.fromkeys(("files", "keys", "image", "disk", "agent", "clock", "room", "engine"), "ok"), found
    assert done.status == 0
    with tarfile.open(bundle) as tar:
        texts = {member.name: tar.extractfile(member).read() for member in tar}
    assert not [name for name in texts if "ed25519" in name]
    assert b"PRIVATE KEY" not in b"".join(texts.values())
    assert b"API listen on" in texts[f"hostvm-doctor/{machine.name}/guest/var/log/dockerd/current"]
    assert b"mark services" in texts[f"hostvm-doctor/{machine.name}/console.log"]


def test_the_doctor_finds_what_is_damaged_in_a_machine_that_is_off(unique):
    name = f"e2e-{os.getpid()}-sick"
    succeed(hostvm("create", name))
    folder = folders_of(name)[0]
    try:
        key = folder / "keys" / "client_ed25519"
        key.chmod(0o644)
        disk = folder / "data.qcow2"
        with disk.open("r+b") as file:
            file.write(b"no longer a disk")
        done = hostvm("doctor", name, "--json")
        found = {entry["name"]: entry for entry in json.loads(done.out) if entry["area"] == name}
        assert {kind for kind, entry in found.items() if entry["level"] == "fail"} == {"keys", "disk"}
        assert "chmod 0600" in found["keys"]["fix"]
        assert "qemu-img check -r all" in found["disk"]["fix"]
        assert done.status == 1
    finally:
        succeed(hostvm("rm", "--force", name))


def test_the_images_module_indexes_are_those_of_the_guests_own_depmod(machine):
    said = machine.shell("sh", "-s", stdin=DEPMOD_AGAIN).splitlines()
    texts = ("alias", "builtin", "builtin.modinfo", "dep", "devname", "order", "softdep", "symbols", "weakdep")
    indexes = ("alias.bin", "builtin.alias.bin", "builtin.bin", "dep.bin", "symbols.bin")
    assert sorted(said) == sorted(f"same: modules.{name}" for name in (*texts, *indexes))


def test_files_and_folders_are_copied_both_ways(machine, tmp_path, unique):
    tree = tmp_path / "tree"
    (tree / "in ner").mkdir(parents=True)
    (tree / "in ner" / "é\nnew.bin").write_bytes(bytes(range(256)) * 8192)
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o750)
    (tree / "link").symlink_to("run.sh")
    (tree / "far").symlink_to("/etc/hostname")
    os.utime(tree / "run.sh", (1_000_000_000, 1_000_000_000))
    there = f"/root/{unique('copied')}"
    succeed(hostvm("cp", str(tree), f"{machine.name}:{there}"))
    assert machine.shell("stat", "-c", "%a %Y %u", f"{there}/run.sh") == "750 1000000000 0"
    succeed(hostvm("-m", machine.name, "cp", f":{there}", str(tmp_path / "back")))
    back = tmp_path / "back"
    assert (back / "in ner" / "é\nnew.bin").read_bytes() == (tree / "in ner" / "é\nnew.bin").read_bytes()
    assert (back / "link").readlink() == Path("run.sh")
    assert (back / "far").readlink() == Path("/etc/hostname")
    assert (back / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (back / "run.sh").stat().st_mtime == 1_000_000_000
    # Into a folder that is there, under the own name; and what is missing is told.
    succeed(hostvm("cp", f"{machine.name}:{there}/run.sh", f"{tmp_path}/"))
    assert (tmp_path / "run.sh").read_text() == "#!/bin/sh\n"
    for words, why in (
        ((str(tmp_path / "none"), f"{machine.name}:/root/"), "there is no"),
        ((f"{machine.name}:/none", str(tmp_path)), "there is no /none in the guest"),
        ((str(tree), f"{machine.name}:/none/here"), "there is no folder /none in the guest"),
        ((str(tree), f"{machine.name}:/proc/{unique('x')}"), "the guest refuses"),
    ):
        done = hostvm("cp", *words)
        assert done.status == 1, done
        assert why in done.err
        assert "->" in done.err
    machine.shell("rm", "-rf", there)
