"""Scripts, variables and an authority's file of machine.yaml, as a real guest runs and shows them."""

from __future__ import annotations

import pytest
from machines import folders_of, hostvm, succeed
from servers import make_authority

pytestmark = pytest.mark.vm

SETTINGS = """
ca: AUTHORITY
env:
  COLOUR: blue and green
provision:
- script: |
    echo "system $COLOUR; engine: $(ls /run/docker.sock 2>/dev/null || echo none)"
    echo each >> /var/lib/each
- when: once
  script: |
    #!/bin/bash
    echo "once by bash $BASH_VERSION"
    echo once >> /var/lib/once
- mode: user
  file: FILE
"""


@pytest.fixture
def provisioned(spare, tmp_path):
    """The spare machine's settings file, to be changed; it is as before afterwards."""
    yaml = folders_of(spare.name)[0] / "machine.yaml"
    before = yaml.read_text()
    anew = ("ca:", "env:", "provision:")
    kept = "".join(line for line in before.splitlines(keepends=True) if not line.startswith(anew))
    (tmp_path / "user.sh").write_text("pwd; docker ps -aq > /dev/null && echo engine answers $COLOUR\n")
    settings = SETTINGS.replace("AUTHORITY", str(make_authority(tmp_path, "corp")[0]))
    yaml.write_text(kept + settings.replace("FILE", str(tmp_path / "user.sh")))
    yield yaml
    yaml.write_text(before)
    succeed(hostvm("stop", spare.name))


def trusted(machine) -> str:
    """The authorities of the guest's programs."""
    return machine.shell("cat", "/etc/ssl/certs/ca-certificates.crt")


def test_scripts_run_in_their_order_and_one_that_fails_leaves_a_machine_to_look_into(spare, provisioned, tmp_path):
    authority = (tmp_path / "corp.pem").read_text().strip()
    assert authority not in trusted(spare)
    spare.hostvm("restart")
    said = succeed(hostvm("logs", "--provision", spare.name))
    for part in ("system blue and green; engine: none", "once by bash 5", "/hostvm/root\nengine answers blue"):
        assert part in said, said
    assert spare.shell("sh", "-c", "echo $COLOUR") == "blue and green"
    assert authority in trusted(spare)
    assert spare.shell("cat", "/var/lib/each", "/var/lib/once") == "each\nonce"
    assert "API listen on" in succeed(hostvm("logs", "--engine", "-n", "500", spare.name))

    fails = "    echo trouble ahead; exit 7\n    echo each"
    provisioned.write_text(provisioned.read_text().replace("    echo each", fails))
    failed = hostvm("restart", spare.name)
    assert failed.status == 1
    for part in (
        f"the script provision[0] of machine {spare.name} failed with status 7; the engine was not started",
        "trouble ahead",
        f"hostvm logs --provision {spare.name}",
        f"hostvm shell {spare.name}",
    ):
        assert part in failed.err, failed
    looked = hostvm("-m", spare.name, "shell", "--", "cat", "/var/lib/each", "/var/lib/once")
    assert (looked.status, looked.out) == (0, "each\nonce\n")
    assert "is not ready: the script provision[0]" in looked.err
    refused = spare.try_docker("ps")
    assert refused.status == 125
    assert "failed with status 7" in refused.err
