"""Networks that this computer's kernel tells of, in a namespace of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from ipaddress import IPv4Network

import pytest

from hostvm.net.clash import choose_subnet

UNSHARE = ("unshare", "--net") if getattr(os, "geteuid", int)() == 0 else ("unshare", "--map-root-user", "--net")
OFFICE = """
ip link set lo up
ip address add 10.0.2.9/24 dev lo
ip route add 192.168.127.0/24 dev lo
exec "$@"
"""
LOOK = (
    "import json; from hostvm.net.clash import host_networks; print(json.dumps([str(one) for one in host_networks()]))"
)


def may_have_networks_of_its_own() -> bool:
    programs = sys.platform == "linux" and shutil.which("unshare") and shutil.which("ip")
    return bool(programs) and subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_have_networks_of_its_own(), reason="no process may have networks of its own here")
def test_an_interfaces_network_and_one_that_is_a_route_alone_are_seen():
    argv = [*UNSHARE, "sh", "-ec", OFFICE, "sh", sys.executable, "-c", LOOK]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(argv, capture_output=True, check=True, env=env)
    found = [IPv4Network(text) for text in json.loads(said.stdout)]
    assert found == [IPv4Network("10.0.2.0/24"), IPv4Network("192.168.127.0/24")]
    assert choose_subnet("auto", found)[0] == "10.127.2.0/24"
