"""Root runs the libvirt tests for an ordinary user that it makes and removes again.

They run under `tini -s`, which reaps what libvirt leaves: in a container whose first process does not, libvirt
waits on zombies for minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import psutil
import pytest

pytest.importorskip("libvirt", reason="libvirt-python is not installed: make setup")

pytestmark = [
    pytest.mark.vm,
    pytest.mark.libvirt,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0, reason="an ordinary user runs them directly"
    ),
]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def user(tmp_path_factory):
    """Name and home of a new ordinary user; the home is short, for it holds sockets."""
    name = f"hv{os.getpid()}"
    home = Path("/tmp", name)
    subprocess.run(["useradd", "--create-home", "--home-dir", home, "--shell", "/bin/sh", name], check=True)
    subprocess.run(["usermod", "--append", "--groups", "kvm", name], check=False, capture_output=True)
    yield name, home
    uid = home.stat().st_uid
    mine = [one for one in psutil.process_iter(["uids"]) if one.info["uids"] and one.info["uids"].real == uid]
    for one in mine:
        one.kill()
    psutil.wait_procs(mine, timeout=10)
    subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)
    assert not home.exists()


def readable_by(name: str, path: Path) -> bool:
    return (
        subprocess.run(["setpriv", "--reuid", name, "--clear-groups", "test", "-r", path], check=False).returncode == 0
    )


def python_of(name: str) -> str:
    """This interpreter if the user may run it, else the system's of the same version."""
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (str(Path(sys.executable).resolve()), shutil.which(same, path="/usr/bin:/usr/local/bin")):
        if candidate and readable_by(name, Path(candidate)):
            return candidate
    pytest.fail(f"no {same} that an ordinary user may run; install it system-wide or move it out of /root")


def python_for(name: str, home: Path, places: dict[str, Path]) -> Path:
    """An environment of the user's own, as set-up makes one: the agent inherits nothing but its interpreter."""
    subprocess.run([python_of(name), "-m", "venv", "--without-pip", home / "venv"], check=True)
    packages = next(home.glob("venv/lib/python*/site-packages"))
    packages.joinpath("hostvm.pth").write_text(f"{places['checkout']}\n{places['packages']}\n")
    subprocess.run(["chown", "-R", name, home / "venv"], check=True)
    return home / "venv" / "bin" / "python"


def copy_for(name: str, home: Path, image) -> dict[str, Path]:
    """What the user needs and may not be allowed to read where it is."""
    packages = Path(sysconfig.get_paths()["purelib"])
    if not readable_by(name, packages / "psutil" / "__init__.py"):
        packages = Path(shutil.copytree(packages, home / "packages"))
    checkout = home / "checkout"
    for part in ("cli", "hostvm", "images", "runtime", "tests"):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    shutil.copytree(image.path, home / "cache" / "images" / "sha256" / image.digest)
    subprocess.run(["chown", "-R", name, home], check=True)
    return {"packages": packages, "checkout": checkout}


def test_libvirt_as_an_ordinary_user(user, image):
    run_as(user, image, "tests/vm/test_drivers_libvirt.py", "tests/vm/test_libvirt_machine.py")


@pytest.mark.slow
@pytest.mark.trixie
def test_shares_with_libvirt_as_an_ordinary_user(user, image):
    run_as(user, image, "tests/vm/test_libvirt_shares.py", "-m", "slow")


def run_as(user, image, *words: str) -> None:
    name, home = user
    places = copy_for(name, home, image)
    (home / "run").mkdir(mode=0o700)
    (home / "tmp").mkdir(mode=0o700)
    subprocess.run(["chown", name, home / "run", home / "tmp"], check=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "XDG_RUNTIME_DIR": str(home / "run"),
        "HOSTVM_HOME": str(home / "machines"),
        "HOSTVM_RUN": str(home / "run" / "hv"),
        "HOSTVM_CACHE": str(home / "cache"),
        "HOSTVM_TEST_IMAGE": image.digest,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        *("setpriv", "--reuid", name, "--regid", name, "--init-groups"),
        *("tini", "-s", "--", str(python_for(name, home, places)), "-m", "pytest", "-p", "no:cacheprovider", "-v"),
        *("--basetemp", str(home / "tmp" / "t"), *words),
    ]
    done = subprocess.run(
        command, cwd=places["checkout"], env=env, capture_output=True, text=True, check=False, timeout=1100
    )
    assert done.returncode == 0, f"{done.stdout[-12000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout[-3000:]
