"""This user's sockets, made by an agent and by whoever listens while its machine sleeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hostvm.platform.local import LocalListener, connect_local


def test_of_listeners_that_come_at_once_one_is_reached(folder):
    path = str(folder / "docker.sock")
    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: LocalListener(path), range(8)))
        connect_local(path).close()
        assert [file.name for file in folder.iterdir()] == ["docker.sock"]
        for listener in made:
            listener.close()
        assert list(folder.iterdir()) == []
