"""A small key-value service in a container, tested against a real engine that each test finds clean."""

from __future__ import annotations

import time
import urllib.request

import pytest

SERVE = "mkdir -p /store && cd /store && echo up > ready && exec httpd -f -p 80 -h /store"


@pytest.fixture
def store(engine, busybox):
    """The service, with a volume for what it keeps."""
    return engine.containers.run(
        busybox,
        ["sh", "-c", SERVE],
        name="store",
        detach=True,
        ports={"80/tcp": ("127.0.0.1", None)},
        volumes={"kept": {"bind": "/store", "mode": "rw"}},
    )


def read(container, key: str) -> str:
    """What the published port answers, as soon as it does."""
    deadline = time.monotonic() + 20
    while True:
        container.reload()
        try:
            port = container.ports["80/tcp"][0]["HostPort"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{key}", timeout=5) as answer:
                return answer.read().decode().strip()
        except (OSError, KeyError, IndexError, TypeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def put(container, key: str, value: str) -> None:
    """Write a value as the service's operator would."""
    status, said = container.exec_run(["sh", "-c", f"echo {value} > /store/{key}"])
    assert status == 0, said


def test_what_was_put_is_served(store):
    assert read(store, "ready") == "up"
    put(store, "colour", "green")
    assert read(store, "colour") == "green"


def test_what_was_put_outlives_the_container(engine, store, busybox):
    put(store, "colour", "blue")
    store.remove(force=True)
    kept = engine.containers.run(
        busybox, ["cat", "/store/colour"], remove=True, volumes={"kept": {"bind": "/store", "mode": "ro"}}
    )
    assert kept == b"blue\n"


def test_each_test_finds_the_engine_clean(engine):
    assert engine.containers.list(all=True) == []
    assert engine.volumes.list() == []
    assert [tag for image in engine.images.list() for tag in image.tags] == ["busybox:latest"]
