"""What an ordinary user needs to run hostvm from this checkout, for root's tests beside this file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


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


def environment(name: str, home: Path, image) -> dict[str, str]:
    """The user's whole environment; the folders it names are made."""
    for folder in (home / "run", home / "tmp"):
        folder.mkdir(mode=0o700)
        subprocess.run(["chown", name, folder], check=True)
    return {
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


def become(name: str) -> tuple[str, ...]:
    """Words in front of a command that the user is to run."""
    return ("setpriv", "--reuid", name, "--regid", name, "--init-groups")
