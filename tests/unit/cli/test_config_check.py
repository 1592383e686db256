"""`hostvm config check`: a file is judged by its own engine."""

from __future__ import annotations

import pytest

from cli.main import main


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("daemon: {log-driver: local}", 0, 'daemon.log-driver: "local" instead of hostvm\'s "json-file"'),
        ("daemon: {hosts: []}", 2, "daemon.hosts: cannot be set"),
        ("engine: podman\ndaemon: {containers: {pids_limit: 100}}", 0, "is sound"),
        ("engine: podman\ndaemon: {log-driver: local}", 2, "must be a table of containers.conf"),
        ("engine: podman\nregistries: {insecure: [10.0.0.0/8]}", 2, "Podman takes hosts, not networks"),
        ("mounts: [/here:/srv/a]\ndisks: [{name: a, size: 1GiB, mount: /srv/a/b}]", 2, "/srv/a/b would be hidden by"),
        ("engine: containerd\ndaemon: {debug: true}", 2, "cannot be set for containerd"),
    ],
)
def test_settings_of_the_engine_are_looked_through(tmp_path, capsys, text, status, told):
    file = tmp_path / "machine.yaml"
    file.write_text(text + "\n")
    assert main(["config", "check", str(file)]) == status
    captured = capsys.readouterr()
    assert told in captured.out + captured.err
