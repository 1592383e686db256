"""examples/orders: web, worker, PostgreSQL and Redis under compose, from the build to `down -v`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import requests
from machines import HOSTVM, eventually, run, running_machine, succeed

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3600)]

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "orders"
SECONDS = 300.0
"""For what a service does by itself, in a guest that may be emulated."""


BUILD_SECONDS = 1800.0
"""For a command; the build unpacks and sets up some 100 packages, in three containers at a time."""


class Orders:
    """The application, at a port of this computer."""

    def __init__(self, machine, folder: Path, port: int) -> None:
        self.machine, self.folder = machine, folder
        self.url = f"http://127.0.0.1:{port}/orders"
        self.env = {"ORDERS_PORT": str(port)}
        (folder / ".env").write_text(f"ORDERS_PORT={port}\n")

    def compose(self, *words: str) -> str:
        argv = (str(HOSTVM), "-m", self.machine.name, "compose", "--project-directory", str(self.folder), *words)
        return succeed(run(*argv, env={"HOSTVM_CLIENT": "guest"}, limit=BUILD_SECONDS))

    def containers(self, service: str, *words: str) -> list[str]:
        return self.compose("ps", "-q", *words, service).split()

    def order(self, what: str) -> int:
        answer = requests.post(self.url, data=what, timeout=60)
        answer.raise_for_status()
        number: int = answer.json()["id"]
        return number

    def worker_of(self, number: int) -> str | None:
        rows = {row["id"]: row for row in requests.get(self.url, timeout=60).json()}
        return rows[number]["worker"] if rows[number]["state"] == "done" else None

    def done(self, number: int) -> str:
        """The worker that did it."""
        return eventually(lambda: self.worker_of(number), f"order {number} is done", SECONDS)


@pytest.fixture(scope="module")
def orders(tmp_path_factory, names_port):
    folder = tmp_path_factory.mktemp("orders") / "orders"
    shutil.copytree(EXAMPLE, folder)
    options = ("--cpus", "2", "--memory", "2GiB", "--mount", str(folder), "--names", names_port)
    with running_machine(f"orders-{os.getpid()}", *options) as machine:
        machine.hostvm("image", "base", "debian:trixie")
        application = Orders(machine, folder, 20000 + os.getpid() % 10000)
        application.compose("--progress", "plain", "build")
        yield application


def test_the_application_comes_up_in_its_order_and_works(orders):
    orders.compose("up", "-d", "--wait", "--wait-timeout", "600")
    shown = [json.loads(line) for line in orders.compose("ps", "--format", "json").splitlines()]
    assert {(row["Service"], row["Health"]) for row in shown} == {
        (name, "healthy") for name in ("web", "worker", "db", "queue")
    }
    begun = {row["Service"]: orders.machine.container(row["ID"])["State"]["StartedAt"] for row in shown}
    assert max(begun["db"], begun["queue"]) < begun["web"] < begun["worker"], "depends_on waits for health"
    assert orders.done(orders.order("tea"))


def test_up_again_changes_nothing(orders):
    before = {service: orders.containers(service) for service in ("web", "worker", "db", "queue")}
    orders.compose("up", "-d", "--wait")
    assert {service: orders.containers(service) for service in before} == before


def test_scale(orders):
    orders.compose("up", "-d", "--wait", "--no-recreate", "--scale", "worker=3")
    names = {identity[:12] for identity in orders.containers("worker")}
    assert len(names) == 3
    numbers = [orders.order(f"cake {number}") for number in range(6)]
    assert {orders.done(number) for number in numbers} <= names
    orders.compose("up", "-d", "--no-recreate", "--scale", "worker=2")
    assert len(orders.containers("worker")) == 2


@contextlib.contextmanager
def followed(orders, *services: str):
    """`compose logs -f`, as a process whose lines can be read until it is told to end."""
    words = [
        HOSTVM,
        "-m",
        orders.machine.name,
        "compose",
        "--project-directory",
        orders.folder,
        "logs",
        "-f",
        "-n",
        "0",
    ]
    process = subprocess.Popen(
        [*map(str, words), *services], stdout=subprocess.PIPE, text=True, env={**os.environ, "HOSTVM_CLIENT": "guest"}
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def test_logs_are_followed(orders):
    with followed(orders, "worker") as process:
        # What was said before the client listened is not shown: orders go on until one is seen.
        numbers = iter(range(100))
        eventually(lambda: _said(process, orders, next(numbers)), "a worker's line is followed", SECONDS)


def _said(process, orders, number: int) -> bool:
    wanted = orders.order(f"followed {number}")
    orders.done(wanted)
    os.set_blocking(process.stdout.fileno(), False)
    return f"order {wanted} done by" in "".join(process.stdout.readlines())


def test_a_rolling_recreate_loses_no_order(orders):
    """New workers beside the old ones, then the old ones end; the web service is asked all the while."""
    old = orders.containers("worker")
    (orders.folder / ".env").write_text((orders.folder / ".env").read_text() + "ORDERS_RELEASE=2\n")
    numbers = [orders.order("before")]
    orders.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", f"worker={2 * len(old)}", "worker")
    new = [one for one in orders.containers("worker") if one not in old]
    assert len(new) == len(old)
    numbers.append(orders.order("between"))
    orders.machine.docker("stop", *old)
    assert {orders.machine.container(one)["State"]["ExitCode"] for one in old} == {0}
    orders.machine.docker("rm", *old)
    numbers.append(orders.order("after"))
    orders.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", f"worker={len(old)}", "worker")
    assert sorted(orders.containers("worker")) == sorted(new)
    workers = [orders.done(number) for number in numbers]
    assert workers[-1] in {one[:12] for one in new}
    assert "release 2" in orders.compose("logs", "worker")


def test_a_service_is_made_anew_and_its_data_stay(orders):
    number = orders.order("to be kept")
    orders.done(number)
    before = orders.containers("web", "-a")
    orders.compose("up", "-d", "--wait", "--no-deps", "--force-recreate", "web")
    assert orders.containers("web", "-a") != before
    orders.compose("restart", "db")
    orders.compose("up", "-d", "--wait", "--no-recreate")
    assert eventually(lambda: _kept(orders, number), "the database answers again", SECONDS)


def _kept(orders, number: int) -> bool:
    with contextlib.suppress(requests.RequestException):
        return bool(orders.worker_of(number))
    return False


def test_down_with_its_volumes_leaves_nothing(orders):
    orders.compose("down", "-v", "--timeout", "30")
    api = orders.machine.sdk.api
    assert api.containers(all=True) == []
    assert [volume for volume in api.volumes()["Volumes"] or [] if volume["Name"].startswith("orders_")] == []
    assert [network for network in api.networks() if network["Name"].startswith("orders")] == []
    with pytest.raises(requests.ConnectionError):
        requests.get(orders.url, timeout=10)
