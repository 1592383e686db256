from __future__ import annotations

import argparse
import json

import pytest

from cli.commands import port

OPEN = {
    "container": "web",
    "protocol": "tcp",
    "host": "127.0.0.1:8080",
    "guest": "127.0.0.1:8080",
    "sent": 2048,
    "received": 3 << 20,
    "connections": 4,
}
FAILED = {
    "container": "dns",
    "protocol": "udp",
    "host": "127.0.0.1:53",
    "guest": "127.0.0.1:53",
    "why": "another program of this computer has port 53/udp",
}


@pytest.fixture
def listed(monkeypatch, tmp_path):
    def run(*, as_json=False, **rows):
        facts = {"services": {"ports": rows, "other": {}}}
        monkeypatch.setattr(port, "existing_paths", lambda _: argparse.Namespace(run_dir=tmp_path))
        monkeypatch.setattr(port, "request", lambda *_: facts)
        return port.ls(argparse.Namespace(json=as_json))

    return run


def test_for_people(listed, capsys):
    assert listed(open=[OPEN], failed=[FAILED]) == 1
    told = capsys.readouterr()
    assert [line.split() for line in told.out.splitlines()[1:]] == [
        ["dns", "127.0.0.1:53", "127.0.0.1:53", "udp", "cannot", "be", "opened"],
        ["web", "127.0.0.1:8080", "127.0.0.1:8080", "tcp", "2", "KiB", "3", "MiB", "4"],
    ]
    assert told.err.startswith("hostvm: 127.0.0.1:53/udp for dns cannot be opened: another program of this computer")


def test_for_programs(listed, capsys):
    assert listed(as_json=True, open=[OPEN], failed=[FAILED]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert rows == [{**FAILED, "state": "failed"}, {**OPEN, "state": "open"}]
    assert listed(as_json=True, open=[OPEN], failed=[]) == 0
    capsys.readouterr()
    assert listed(as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == []
