"""What every test run shares: folders of its own, and proof that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings
from platformdirs import user_cache_path, user_data_path, user_runtime_path

_SCRATCH = pytest.StashKey[Path]()
_TOOLS_OWN = {".git", ".venv", ".tools", "build", "__pycache__", ".hypothesis"}
_TOOLS_OWN |= {".pytest_cache", ".mypy_cache", ".ruff_cache", ".import_linter_cache"}
_SECONDS = {"unit": 60, "guest": 60, "agent": 120, "registry": 120, "vm": 900, "e2e": 900, "faults": 1800, "wine": 600}
"""Of one test with its fixtures; the first test with a guest also builds the image, on a slow machine emulated."""

_ORDER = list(_SECONDS)
_TOGETHER = {"agent", "registry", "vm", "faults"}
"""Folders whose tests share a fixture of the whole run."""

_SHARED = ("_sharing_made", "rig", "machine", "_spare_made")
"""Fixtures of tests/e2e that hold a machine of several modules; a test that uses two of them belongs to the first."""

_LONGEST = (
    "machine",
    "_sharing_made",
    "test_snapshots.py",
    "rig",
    "test_architectures.py",
    "test_idle.py",
)
"""Groups of tests/e2e that take minutes, in the order in which they are begun."""

_GRACE = 5.0
"""Seconds for processes that were told to end at the very end of the run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write golden files anew")


def pytest_configure(config: pytest.Config) -> None:
    """Before any module is imported: folders that are not the user's own.

    A folder that is set already (a CI job's) is used as it is and kept. The cache of packages and images is the
    exception: unless set, it is the checkout's build folder, so that a second run does not download again.
    """
    _hear_signals()
    # How fast a busy computer runs an example says nothing about the code.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    config.stash[_SCRATCH] = scratch = Path(tempfile.mkdtemp(prefix="hv-", dir="/tmp" if os.name == "posix" else None))
    os.environ.setdefault("HOSTVM_HOME", str(scratch / "home"))
    os.environ.setdefault("HOSTVM_RUN", str(scratch / "run"))
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # machines of its own, so that each sees what it left itself
        for name in ("HOSTVM_HOME", "HOSTVM_RUN"):
            os.environ[name] = str(Path(os.environ[name], worker))
    os.environ.setdefault("HOSTVM_CACHE", str(config.rootpath / "build" / "test-cache"))
    os.environ["DOCKER_CONFIG"] = str(scratch / "docker")  # starts write contexts there
    for name in ("HOSTVM_MACHINE", "HOSTVM_CLIENT", "DOCKER_HOST", "DOCKER_CONTEXT"):
        os.environ.pop(name, None)


def _hear_signals() -> None:
    """Programs that tests start hear every signal, even where the run itself was started with some ignored (nohup)."""
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_SCRATCH], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first, whatever order the folders were named in; each kind with its time limit, and its worker.

    Tests that share a machine, a server or a user of this computer run one after the other in one worker, by
    pytest-xdist's groups; else those of a file do.
    """

    def folder(item: pytest.Item) -> str:
        return item.path.relative_to(item.config.rootpath / "tests").parts[0]

    def rank(group: str) -> int:
        return next((number for number, name in enumerate(_LONGEST) if group.endswith(name)), len(_LONGEST))

    # Of those with guests the longest first, so that no worker waits for the other. Else the order of a folder stays.
    items.sort(key=lambda item: (_ORDER.index(folder(item)), rank(_group(item, folder(item)))))
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_SECONDS[folder(item)]))
        item.add_marker(pytest.mark.xdist_group(_group(item, folder(item))))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Nobody runs two workers that share what must not be shared, unnoticed."""
    if getattr(session.config.option, "loadgroup", False) and any("@" not in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist has not seen the groups of tests; run them with: scripts/test.sh -n 0")


def _group(item: pytest.Item, folder: str) -> str:
    if folder in _TOGETHER:
        return folder
    fixtures = getattr(item, "fixturenames", ()) if folder == "e2e" else ()
    shared = [name for name in _SHARED if name in fixtures]
    if shared[:1] == ["machine"] and hasattr(item.module, "machine"):  # the module's own
        return str(item.path)
    return shared[0] if shared else str(item.path)


def _processes() -> dict[int, str]:
    """Processes whose command line speaks of this run's folders; this one and those above it do not count."""
    words = [os.environ["HOSTVM_HOME"], os.environ["HOSTVM_RUN"]]
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = {}
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(word in line for word in words):
            found[process.info["pid"]] = line
    return {pid: line for pid, line in found.items() if pid not in own}


def _visible_files() -> set[Path]:
    """Where stray files would show: the folders hostvm uses when it is not told otherwise, and the checkout.

    The checkout only in CI: elsewhere a person may well be editing it while the tests run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs: XDG_RUNTIME_DIR is not set
        roots = [make("hostvm", appauthor=False) for make in (user_cache_path, user_data_path, user_runtime_path)]
    if os.environ.get("CI"):
        roots.append(Path(__file__).parent.parent)
    files = set()
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in _TOOLS_OWN]
            files |= {Path(folder, name) for name in names}
    return files


@pytest.fixture(scope="session", autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest):
    processes, files = set(_processes()), _visible_files()
    yield
    deadline = time.monotonic() + _GRACE
    while (left := {pid: line for pid, line in _processes().items() if pid not in processes}) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    for pid in left:  # told below; not left running as well
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    strays = [] if request.config.getoption("--regenerate") else sorted(map(str, _visible_files() - files))
    assert not left, f"processes left behind by this run: {left}"
    assert not strays, f"files left behind by this run: {strays}"
