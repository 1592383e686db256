"""The managing verbs: their options, help and dispatch."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from hostvm.errors import UsageError
from hostvm.paths import check_places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from cli.main import Globals

    Verbs: TypeAlias = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001 - the only name it has

_SYSTEM_SOCKET = "/var/run/docker.sock"
_WITH_COMMAND = ("shell", "run")
_SUSPEND_RULE = """\
what cannot be saved is refused, and the machine runs on:
  a folder shared by 9p that a running container or a program has: stop it, or share the folder by nfs
  folders shared by virtiofs; Windows; a hypervisor on another computer
9p folders that nobody has are unmounted, and mounted again when the machine goes on. Connections of the
guest to elsewhere are cut. The saved memory fits this data disk, QEMU and hostvm only."""
_ABOUT = """\
Linux containers on this computer: a lightweight guest VM with a real engine in it.

  hostvm start                          make and start the machine 'default'
  hostvm docker run --rm -p 8080:80 web forward a docker command to it
  eval "$(hostvm env)"                  let docker clients and tools find it
  hostvm stop                           power it off; all data stays
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, None, f"see: {self.prog} --help")


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> NoReturn:
        from importlib.metadata import version  # 20 ms to import, wanted once in a while

        sys.stdout.write(f"hostvm {version('hostvm')}\n")
        raise SystemExit(0)


def manage(found: Globals) -> int:
    """Parse a managing verb and run it."""
    parser = build_parser(found.rest[0] if found.rest else "")
    if not found.rest:
        parser.print_help()
        return 2
    words, command = split_command(found.rest)
    options, unknown = parser.parse_known_args(words)
    if unknown:  # here, since argparse would name the help of all commands, and not this one's
        raise UsageError(f"unrecognized arguments: {' '.join(unknown)}", None, f"see: {options.told_by} --help")
    check_places()
    options.command = command
    options.machine = _first(getattr(options, "machine", None), found.machine)
    options.json = getattr(options, "json", False) or found.json
    options.quiet = getattr(options, "quiet", False) or found.quiet
    options.verbose = max(getattr(options, "verbose", 0) or 0, found.verbose)
    found.verbose = options.verbose
    if getattr(options, "debug", False) and not found.debug:
        from cli.main import show_commands

        show_commands()
    module, _, function = options.run.partition(":")
    status: int = getattr(import_module(f"cli.commands.{module}"), function)(options)
    return status


def split_command(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Words before `--`, and the exact ones behind it: None without `--`, and for verbs that run no command.

    Of those the words behind it are their own: in `hostvm rm -- NAME` it is the machine.
    """
    if words[0] in _WITH_COMMAND and "--" in words:
        at = list(words).index("--")
        return list(words[:at]), list(words[at + 1 :])
    return list(words), None


def _first(*names: str | None) -> str:
    return next((name for name in names if name), "")


def build_parser(verb: str = "") -> argparse.ArgumentParser:
    """The whole command line but the engines' own words.

    :param verb: makes that verb and those of its group only, if there is one: all of them take 20 ms of `hostvm ls`.
    """
    parser = _Parser("hostvm", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action=_Version, nargs=0, help="print hostvm's version")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    groups = [add for names, add in _GROUPS if verb in names.split()] or [add for _, add in _GROUPS]
    for add in groups:
        add(verbs)
    return parser


def _verb(
    verbs: Verbs, name: str, run: str, text: str, *examples: str, named: bool = True, quiet: str = "no progress"
) -> argparse.ArgumentParser:
    epilog = "examples:\n" + "\n".join(f"  {example}" for example in examples)
    verb = verbs.add_parser(
        name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verb.register("type", None, _given)  # for whatever it is told that names no kind of its own
    verb.set_defaults(run=run, told_by=verb.prog)
    if named:
        verb.add_argument("name", nargs="?", metavar="NAME", type=_machine, help="the machine (default: default)")
    verb.add_argument("-m", "--machine", metavar="NAME", type=_machine, help="the machine; also HOSTVM_MACHINE")
    verb.add_argument("--json", action="store_true", help="print facts as JSON")
    verb.add_argument("-q", "--quiet", action="store_true", help=quiet)
    verb.add_argument("-v", "--verbose", action="count", help="more detail on failures")
    verb.add_argument("--debug", action="store_true", help="print every command that is run on this computer")
    return verb


def _machine(name: str) -> str:
    if not name:
        raise argparse.ArgumentTypeError("'' names no machine")
    return name


def _given(word: str) -> str:
    """A word that is not to be taken for none when it is empty: a script's variable that is not set, say."""
    if not word:
        raise argparse.ArgumentTypeError("it is empty")
    return word


def _add_settings(verb: argparse.ArgumentParser) -> None:
    from hostvm.spec import SETTINGS

    for setting in SETTINGS:
        if setting.option:
            option = f"--{setting.key.replace('_', '-')}"
            # Which of them may be empty is theirs to say.
            verb.add_argument(option, metavar=setting.metavar, type=str, help=setting.help)
    verb.add_argument("--template", metavar="NAME|FILE", help="begin with its settings; options count over them")
    verb.add_argument(
        "--mount",
        action="append",
        metavar="SRC[:DST[:ro]]",
        help="share a folder besides the home folder, or those of the template; repeatable; 'none' leaves these out",
    )


def _add_machine_verbs(verbs: Verbs) -> None:
    from cli.copy_options import add_copy_verbs

    start = _verb(
        verbs,
        "start",
        "life:start",
        "make the machine if it is missing, start it, return when its engine answers",
        "hostvm start",
        "hostvm start build --cpus 4 --memory 8GiB --disk 100GiB",
        "hostvm start lab --driver libvirt",
        "hostvm start ci --template ci --cpus 2",
        "hostvm start web --mount none --mount ~/src --mount /data/photos:/photos:ro",
    )
    _add_settings(start)
    start.add_argument("--use-context", action="store_true", help="let docker clients use it: docker context hostvm")
    start.add_argument(
        "--from-snapshot", metavar="SNAPSHOT", help="go back to this snapshot first; what it is now is lost"
    )
    start.add_argument(
        "--discard-state",
        action="store_true",
        help="boot a suspended machine, or the snapshot, anew, without its saved memory: as after a power cut",
    )
    create = _verb(
        verbs, "create", "life:create", "make a machine without starting it", "hostvm create ci --memory 2GiB"
    )
    _add_settings(create)
    add_copy_verbs(verbs, _verb, _SUSPEND_RULE, _add_settings)
    stop = _verb(
        verbs, "stop", "life:stop", "power the machine off; its data stays", "hostvm stop", "hostvm stop --force ci"
    )
    stop.add_argument("-f", "--force", action="store_true", help="cut the power at once, without asking the guest")
    suspend = _verb(
        verbs,
        "suspend",
        "sleep:suspend",
        "save the machine's memory to disk and free it; the next start, resume or docker command goes on from there",
        "hostvm suspend",
        "hostvm suspend --pause ci     # in place: keeps its memory",
    )
    suspend.epilog = f"{suspend.epilog}\n\n{_SUSPEND_RULE}"
    suspend.add_argument("--pause", action="store_true", help="halt it in place instead: no processor time, no file")
    _verb(
        verbs,
        "resume",
        "sleep:resume",
        "let a suspended or paused machine go on; its containers never noticed",
        "hostvm resume",
    )
    _verb(verbs, "restart", "life:restart", "stop and start the machine", "hostvm restart")
    upgrade = _verb(
        verbs,
        "upgrade",
        "upgrade:upgrade",
        "give the machine a newer guest image; its data stay, and the former image comes back if the new one fails",
        "hostvm upgrade --check",
        "hostvm upgrade               # from the archive as it is now",
        "hostvm upgrade ci --image 04fa92bb9ec8",
        "hostvm upgrade --all",
    )
    upgrade.add_argument("--all", action="store_true", help="every machine; one that fails does not stop the others")
    upgrade.add_argument("--image", metavar="REF", help="this image; machine.yaml says so from then on")
    upgrade.add_argument("--check", action="store_true", help="only tell what there is")
    rm = _verb(
        verbs,
        "rm",
        "life:remove",
        "delete the machine with its images, containers and volumes",
        "hostvm rm ci",
        "hostvm rm --force ci     # even while it runs",
    )
    rm.add_argument("-f", "--force", action="store_true", help="stop it first, do not ask, remove damaged ones too")
    shell = _verb(
        verbs,
        "shell",
        "shell:shell",
        "a login shell in the guest, or one command exactly as given",
        "hostvm shell",
        "hostvm shell -- uname -a",
        "hostvm -m ci shell -- sh -c 'echo \"$HOSTNAME\"'",
    )
    shell.set_defaults(forwarded=True)
    cp = _verb(
        verbs,
        "cp",
        "cp:cp",
        "copy files and folders between this computer and a machine; modes and times are kept",
        "hostvm cp notes.txt :/root/",
        "hostvm cp ci:/var/log/dockerd ./logs",
        "hostvm cp a b c :/srv/          # the folder /srv",
        named=False,
    )
    cp.add_argument("places", nargs="+", metavar="PLACE", help="sources, then the target; a machine's is [NAME]:PATH")
    move = _verb(
        verbs,
        "move",
        "move:move",
        "move a container to another machine, with its writable layer and volumes",
        "hostvm move web --from laptop --to ci",
        named=False,
    )
    move.add_argument("container", metavar="CONTAINER", help="its name or id")
    move.add_argument("--from", dest="source", metavar="MACHINE", help="where it is (default: the chosen machine)")
    move.add_argument("--to", dest="target", metavar="MACHINE", required=True, help="where it goes")


def _add_looking_verbs(verbs: Verbs) -> None:
    from cli.look_options import add_look_verbs

    add_look_verbs(verbs, _verb)


def _add_space_verbs(verbs: Verbs) -> None:
    _verb(
        verbs,
        "df",
        "space:df",
        "disk use: in the guest, by the engine's things, and on this computer",
        "hostvm df",
        "hostvm df ci --json",
    )
    prune = _verb(
        verbs,
        "prune",
        "space:prune",
        "shrink the disk's file by what was deleted in the guest; delete unused things first, where asked for",
        "hostvm prune                    # deletes nothing",
        "hostvm prune --images --build-cache",
        "hostvm prune --all --volumes ci",
    )
    prune.add_argument("--containers", action="store_true", help="delete stopped containers")
    prune.add_argument("--images", action="store_true", help="delete images that no container uses")
    prune.add_argument("--build-cache", action="store_true", help="delete the build cache")
    prune.add_argument("--volumes", action="store_true", help="delete volumes that no container uses, with their data")
    prune.add_argument("-a", "--all", action="store_true", help="all of these but volumes, and unused networks")
    prune.add_argument("-f", "--force", action="store_true", help="do not ask on a terminal")


def _add_port_verbs(verbs: Verbs) -> None:
    port = verbs.add_parser("port", help="ports of this computer that lead into the machine")
    parts = port.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _verb(
        parts,
        "ls",
        "port:ls",
        "published ports: whose, where they lead, what they carried; those that cannot be opened, and why",
        "hostvm port ls",
        "hostvm port ls ci --json",
    )


def _add_client_verbs(verbs: Verbs) -> None:
    context = verbs.add_parser("context", help="docker contexts that lead to machines")
    parts = context.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _verb(
        parts,
        "use",
        "context:use",
        "let docker clients on this computer use the machine's engine",
        "hostvm context use",
        "hostvm context use ci",
    )
    _verb(parts, "ls", "context:ls", "list the machines' docker contexts", "hostvm context ls", named=False)
    shim = verbs.add_parser("shim", help="launchers: type docker where no docker client is")
    parts = shim.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    install = _verb(
        parts,
        "install",
        "shim:install",
        "put launchers called docker and docker-compose on PATH, where no native client is",
        "hostvm shim install",
        "hostvm shim install ci --dir ~/bin    # always for the machine ci",
        "hostvm shim install --socket --yes    # also /var/run/docker.sock, for programs that know no DOCKER_HOST",
    )
    install.add_argument("--force", action="store_true", help="also where a native client is found on PATH")
    install.add_argument("--yes", action="store_true", help="do not ask before --socket")
    remove = _verb(parts, "rm", "shim:remove", "remove the launchers", "hostvm shim rm", named=False)
    show = _verb(parts, "ls", "shim:ls", "list the launchers and what they stand before", "hostvm shim ls", named=False)
    for verb in (install, remove, show):
        verb.add_argument("--dir", metavar="DIR", help="where launchers are (default: ~/.local/bin, and all of PATH)")
        verb.add_argument("--socket", nargs="?", const=_SYSTEM_SOCKET, metavar="PATH", help=f"also {_SYSTEM_SOCKET}")
        verb.set_defaults(socket=None if verb is install else _SYSTEM_SOCKET)


def _add_mount_verbs(verbs: Verbs) -> None:
    from hostvm.shares.model import KINDS

    mount = verbs.add_parser("mount", help="folders of this computer in the guest")
    parts = mount.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    add = _verb(
        parts,
        "add",
        "mount:add",
        "share a folder with the machine, at once when it runs; containers started afterwards can use it",
        "hostvm mount add /data/photos",
        "hostvm mount add ~/src:/src",
        "hostvm mount add /Volumes/usb:ro",
        "hostvm mount add --kind virtiofs ~/src",
        named=False,
    )
    add.add_argument(
        "folder", metavar="SRC[:DST[:ro]]", help="the folder, where it is in the guest (default: the same)"
    )
    add.add_argument(
        "--kind", default="auto", choices=KINDS, help="how; 9p and virtiofs from the next start on (default: auto)"
    )
    rm = _verb(parts, "rm", "mount:remove", "share a folder no more", "hostvm mount rm /data/photos", named=False)
    rm.add_argument("folder", metavar="FOLDER", help="the folder, or where it is in the guest")
    _verb(parts, "ls", "mount:ls", "list shared folders and how they are shared", "hostvm mount ls --json", named=False)


def _add_completion_verb(verbs: Verbs) -> None:
    completion = _verb(
        verbs,
        "completion",
        "completion:completion",
        "print the completion script for a shell",
        'eval "$(hostvm completion bash)"       # also in ~/.bashrc',
        "source <(hostvm completion zsh)       # in ~/.zshrc, behind compinit",
        "hostvm completion fish | source       # in ~/.config/fish/config.fish",
        "hostvm completion powershell | Out-String | Invoke-Expression",
        named=False,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish", "powershell"), help="whose script")


def _add_image_verbs(verbs: Verbs) -> None:
    from cli.image_options import add_image_verbs

    add_image_verbs(verbs, _verb)


def _add_bundle_verbs(verbs: Verbs) -> None:
    from cli.bundle_options import add_bundle_verbs

    add_bundle_verbs(verbs, _verb)


def _add_registry_verbs(verbs: Verbs) -> None:
    from cli.registry_options import add_registry_verbs

    add_registry_verbs(verbs, _verb)


def _add_config_verbs(verbs: Verbs) -> None:
    from cli.config_options import add_config_verbs

    add_config_verbs(verbs, _verb)


def _add_forwarded(verbs: Verbs) -> None:
    """For the list of commands: they never come here (cli/main.py)."""
    verbs.add_parser("docker", help="forward a docker command line to the machine", add_help=False)
    verbs.add_parser("compose", help="forward a docker compose command line to the machine", add_help=False)
    verbs.add_parser("podman", help="forward a podman command line to a machine of that engine", add_help=False)
    verbs.add_parser("ctr", help="forward a command line of containerd's client, likewise", add_help=False)


_MACHINES = "start create clone snapshot run stop suspend resume restart upgrade rm shell cp move"
_GROUPS: tuple[tuple[str, Callable[[Verbs], None]], ...] = (
    (_MACHINES, _add_machine_verbs),
    ("ls status inspect logs env doctor", _add_looking_verbs),
    ("df prune", _add_space_verbs),
    ("port", _add_port_verbs),
    ("image", _add_image_verbs),
    ("bundle", _add_bundle_verbs),
    ("context shim", _add_client_verbs),
    ("mount", _add_mount_verbs),
    ("registry", _add_registry_verbs),
    ("config template set edit autostart", _add_config_verbs),
    ("completion", _add_completion_verb),
    ("docker compose podman ctr", _add_forwarded),
)
"""Verbs by what adds them, in the order of the list of commands."""
