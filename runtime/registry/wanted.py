"""What the user wants of a machine's registry: `registry.json`, which no one shows to others, unlike machine.yaml."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from hostvm.errors import MachineError
from hostvm.files import write_atomic
from hostvm.paths import REGISTRY_CA, REGISTRY_JSON
from hostvm.platform.words import delete_file

if TYPE_CHECKING:
    from pathlib import Path

PORT = 5000
HUB = "https://registry-1.docker.io"
"""What the engine calls Docker Hub."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One registry.

    :param on: whether it runs whenever the machine does.
    :param user: who may use it, with the password of `hashed` (bcrypt); "": everybody who reaches the port.
    :param mirror: URL of the registry it is a pull-through mirror of; "": it is one of its own.
    :param secret: signs the state of uploads, so that they go on after a restart.
    :param ca, certificate, key: PEM; "": without TLS.
    """

    on: bool = False
    port: int = PORT
    user: str = ""
    hashed: str = ""
    mirror: str = ""
    secret: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def address(self) -> str:
        """What image names begin with."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """Its address with the scheme."""
        return f"{'https' if self.certificate else 'http'}://{self.address}"


def load_wanted(folder: Path) -> Wanted:
    """Of the machine in this folder; one that is off where nothing was written yet.

    :raises MachineError: the file is damaged.
    """
    path = folder / REGISTRY_JSON
    names = {field.name for field in fields(Wanted)}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Wanted(**{key: value for key, value in data.items() if key in names})
    except FileNotFoundError:
        return Wanted()
    except (OSError, ValueError, AttributeError, TypeError) as fault:
        raise MachineError(
            f"the settings of the registry of {folder.name} are damaged",
            f"{path}: {fault!r}",
            f"its images stay when they are removed: {delete_file(str(path))}",
        ) from fault


def save_wanted(folder: Path, wanted: Wanted) -> None:
    """Write it, and beside it the certificate authority for other programs of this computer.

    The machine's lock must be held.
    """
    write_atomic(folder / REGISTRY_JSON, json.dumps(asdict(wanted), indent=2).encode() + b"\n")
    if wanted.ca:
        write_atomic(folder / REGISTRY_CA, wanted.ca.encode(), mode=0o644)
    else:
        (folder / REGISTRY_CA).unlink(missing_ok=True)
