"""`from hostvm import Machine`: what the commands do, for programs. docs/python.md."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli import held
from cli.commands.common import require_machine
from cli.contexts import drop_context
from hostvm.agent.client import docker_host, run_in_guest
from hostvm.config.templates import template_settings
from hostvm.errors import HostvmError, MachineError, UsageError
from hostvm.locks import BusyError, machine_lock
from hostvm.machines.boot import check_startable
from hostvm.machines.clone import clone_machine, require_free
from hostvm.machines.ephemeral import remove_ephemeral, start_ephemeral
from hostvm.machines.halt import stop_machine
from hostvm.machines.observe import observe
from hostvm.machines.remove import remove_machine
from hostvm.machines.snapshots import (
    create_snapshot,
    list_snapshots,
    newest_snapshot,
    remove_snapshot,
    restore_snapshot,
)
from hostvm.machines.suspend import pause_machine
from hostvm.machines.warm import SNAPSHOT, discard_warm, ensure_warm, identity, warm_paths, warm_spec
from hostvm.paths import DEFAULT_MACHINE, MachinePaths, machine_names
from hostvm.spec import default_spec, load_spec, parse_settings, with_own_image
from images.progress import NullProgress
from runtime.engine import find_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from hostvm.guest import Completed
    from hostvm.spec import MachineSpec
    from images.progress import Progress


class Machine:
    """One machine, by its name, whether it exists or not: making this object does nothing.

    Every method may be called at any time and blocks until it is done. What fails is raised as `HostvmError`, with
    `brief`, `details` and `resolution`.

    :param progress: told of steps; silent by default.
    :raises SpecError: no machine can have that name.
    """

    def __init__(self, name: str = DEFAULT_MACHINE, *, progress: Progress | None = None) -> None:
        self._paths = MachinePaths.of(name)
        self._progress: Progress = progress or NullProgress()

    def __repr__(self) -> str:
        return f"Machine({self.name!r})"

    @classmethod
    def create(
        cls, name: str = DEFAULT_MACHINE, *, template: str = "", progress: Progress | None = None, **settings: Any
    ) -> Machine:
        """Make a machine without starting it.

        :param template: a template's name or file, as with `hostvm create --template`.
        :param settings: keys of machine.yaml: `cpus=2, memory="2GiB"`.
        :raises MachineError: there is one of this name.
        :raises SpecError: wrong settings, all of them.
        """
        machine = cls(name, progress=progress)
        with machine_lock(machine._paths):
            held.create(machine._paths, with_own_image(_spec(default_spec(), template, settings)), machine._progress)
        return machine

    @classmethod
    def all(cls) -> list[Machine]:
        """Every machine there is, by name."""
        return [cls(name) for name in machine_names()]

    @classmethod
    def ephemeral(
        cls,
        *,
        of: str = "",
        snapshot: str = "",
        template: str = "",
        progress: Progress | None = None,
        **settings: Any,
    ) -> EphemeralMachine:
        """A machine for a `with` block, ready in it within seconds, gone behind it or with this process.

        The first one of some settings boots a machine that all later ones begin from.

        :param of: begin from a snapshot of this machine of yours, with the images and containers it has.
        :param snapshot: which one; the newest by default.
        :param template: as for `create`.
        :param settings: as for `create`; not together with `of`.
        """
        return EphemeralMachine(of, snapshot, template, settings, progress or NullProgress())

    # ---- what it is

    @property
    def name(self) -> str:
        """Its name."""
        return self._paths.name

    @property
    def exists(self) -> bool:
        """Whether there is such a machine."""
        return self._paths.folder.is_dir()

    @property
    def status(self) -> str:
        """running, starting, stopped, suspended, paused, crashed or broken.

        :raises MachineError: there is no such machine.
        """
        return observe(self._there()).status

    @property
    def docker_host(self) -> str:
        """The value of DOCKER_HOST that leads docker clients and SDKs to its engine while it runs.

        :raises ForwardError: on Windows, when the pipe of that name is another program's.
        """
        return docker_host(self._paths.run_dir)

    @property
    def env(self) -> dict[str, str]:
        """Variables for programs that are to use it."""
        return {"DOCKER_HOST": self.docker_host, "HOSTVM_MACHINE": self.name}

    def inspect(self) -> dict[str, Any]:
        """The facts of `hostvm inspect`.

        :raises MachineError: there is no such machine.
        """
        return observe(self._there()).everything()

    # ---- its life

    def start(self, *, discard_state: bool = False) -> float | None:
        """Start it, or let it go on; returns when its engine answers. Idempotent.

        Gives the seconds that it took; None when it was ready already.

        :param discard_state: boot a suspended machine without its saved memory, as after a power cut.
        :raises HostvmError: it does not exist, or did not become ready.
        """
        with self._held() as paths:
            return held.start(paths, self._progress, discard_state=discard_state)

    def stop(self, *, force: bool = False) -> bool:
        """Power it off through its guest; with `force` cut its power. Idempotent; False when it was off already."""
        with self._held() as paths:
            return stop_machine(paths, self._progress, force=force, for_good=True)

    def restart(self) -> float:
        """Stop and start it; gives the seconds of the start.

        :raises HostvmError: its settings contradict each other, or name what is not there: it runs on; or it did not
            become ready.
        """
        with self._held() as paths:
            check_startable(paths, load_spec(paths.spec), held.engine_of(paths))  # rather than leave it stopped
            return held.restart(paths, self._progress)

    def suspend(self) -> float | None:
        """Save its memory to disk and free it; `start` goes on. Idempotent.

        Gives the seconds that it took; None when it was suspended already.

        :raises MachineError: it does not run, or cannot be saved as it is; the details say why.
        """
        with self._held() as paths:
            return held.suspend(paths, self._progress)

    def pause(self) -> bool:
        """Halt it in place, with its memory; `start` goes on. Idempotent; False when it was paused already.

        :raises MachineError: it does not run.
        """
        with self._held() as paths:
            return pause_machine(paths)

    def resume(self) -> float | None:
        """`start` for a machine that is suspended, paused or running.

        :raises MachineError: it is off.
        """
        with self._held() as paths:
            status = observe(paths).status
            if status in ("stopped", "crashed", "broken"):
                raise MachineError(f"machine {paths.name} is {status}", None, f"start it: hostvm start {paths.name}")
            return held.start(paths, self._progress)

    def remove(self, *, force: bool = False) -> None:
        """Delete it with its data and its docker context; nobody is asked.

        :param force: although it runs or has clones.
        :raises MachineError: it runs or has clones.
        """
        with self._held() as paths:
            # Broken off afterwards, nobody would look for the context any more.
            remove_machine(paths, self._progress, force=force, before=lambda: drop_context(paths, self._progress))

    # ---- others of it, and what it was

    def clone(self, name: str) -> Machine:
        """Another machine with its data; it must be stopped or suspended.

        :raises MachineError: it runs, or there is a machine of that name.
        """
        made = Machine(name, progress=self._progress)
        source = self._there()
        require_free(made._paths)  # before the locks: its own name's would be waited for
        first, second = sorted((source, made._paths), key=lambda paths: paths.name)  # as everybody else who needs two
        with machine_lock(first), machine_lock(second):
            clone_machine(self._there(), made._paths)
        return made

    def snapshot(self, name: str = "") -> str:
        """Keep it as it is, memory included when it runs; gives the snapshot's name.

        :raises MachineError: the name is taken, or its memory cannot be saved.
        """
        name = name or time.strftime("s-%Y%m%d-%H%M%S")
        with self._held() as paths:
            return create_snapshot(paths, name, self._progress, lambda ident: held.container_name(paths, ident)).name

    def restore(self, name: str = "") -> bool:
        """Make it what it was in a snapshot, the newest by default; what it is now is lost.

        Whether it runs afterwards: one without memory is off.

        :raises MachineError: there is no such snapshot, or it cannot be used.
        """
        with self._held() as paths:
            return restore_snapshot(paths, name or newest_snapshot(paths).name, self._progress)

    def snapshots(self) -> list[str]:
        """Names of its snapshots, the oldest first."""
        return [one.name for one in list_snapshots(self._there())]

    def remove_snapshot(self, name: str) -> None:
        """Forget a snapshot.

        :raises MachineError: there is none of this name.
        """
        with self._held() as paths:
            remove_snapshot(paths, name)

    # ---- in its guest

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, check: bool = False) -> Completed:
        """Run one argv in its guest, exactly as given, and collect its output.

        :param timeout: seconds; then the call ends, the program may not.
        :param check: a status other than 0 is an error.
        :raises HostvmError: it does not run, took too long, or `check` says so.
        :raises UsageError: `argv` is one text, or empty.
        """
        if isinstance(argv, str) or not argv:
            raise UsageError(
                "run takes the words of a command, one by one",
                f"it was given {argv!r}",
                'for example: run(["ls", "-l"]), or for a shell\'s line: run(["sh", "-c", "ls | wc -l"])',
            )
        done = run_in_guest(self._paths.run_dir, argv, timeout=timeout)
        if check and done.status != 0:
            raise HostvmError(
                f"{argv[0]} in machine {self.name} ended with {done.status}",
                (done.stderr or done.stdout).decode(errors="replace").strip() or None,
                f"try it by hand: hostvm shell -m {self.name} -- {argv[0]}",
            )
        return done

    # ---- private

    def _there(self) -> MachinePaths:
        return require_machine(self._paths)

    @contextmanager
    def _held(self) -> Iterator[MachinePaths]:
        self._there()
        with machine_lock(self._paths):
            yield self._there()


class EphemeralMachine(Machine):
    """Made by `Machine.ephemeral`; has a name once it has begun."""

    def __init__(self, of: str, snapshot: str, template: str, settings: dict[str, Any], progress: Progress) -> None:
        if of and (template or settings):
            raise MachineError(
                f"a machine that begins from {of} has its settings", None, "leave either out: of, or settings"
            )
        if snapshot and not of:
            raise MachineError(
                f"snapshot {snapshot} is of no machine", None, "name the machine, too: of=NAME, or NAME/SNAPSHOT"
            )
        self._begin = (of, snapshot, template, settings)
        self._paths = warm_paths("not-begun")  # a hidden folder that never exists
        self._begun = False
        self._owner = 0
        self._progress = progress

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Begin, for callers without a `with` block. Idempotent until `close`.

        :raises HostvmError: it does not become ready; nothing is left.
        """
        if self._begun:
            return
        of, snapshot, template, settings = self._begin
        if of:
            source = require_machine(MachinePaths.of(of))
            self._paths = start_ephemeral(source, snapshot or newest_snapshot(source).name, self._progress)
        else:
            self._paths = self._from_warm(with_own_image(_spec(warm_spec(), template, settings)))
        self._begun, self._owner = True, os.getpid()

    def _from_warm(self, spec: MachineSpec) -> MachinePaths:
        engine = find_engine(spec.engine)
        source = ensure_warm(spec, engine, self._progress)
        base = identity(source)
        try:
            return start_ephemeral(source, SNAPSHOT, self._progress)
        except BusyError:
            raise  # which says nothing of what it began from
        except MachineError as fault:
            # What it began from was of another hostvm, or is damaged: it can be had again. Of several processes that
            # find it so, one makes it.
            self._progress.note(f"{fault.brief}: {fault.details}")
            discard_warm(source, self._progress, base)
            return start_ephemeral(ensure_warm(spec, engine, self._progress), SNAPSHOT, self._progress)

    def close(self) -> None:
        """Remove it. Idempotent; nothing to do before `open`; `open` afterwards makes another one.

        Nor in a process that was forked from the one that made it, whose machine it stays.
        """
        if self._begun and self._owner == os.getpid():
            remove_ephemeral(self._paths, self._progress)
            self._begun = False


def _spec(base: MachineSpec, template: str, settings: dict[str, Any]) -> MachineSpec:
    if template:
        base = replace(base, **template_settings(template))
    return parse_settings(settings, base, "arguments")
