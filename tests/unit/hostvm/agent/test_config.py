import stat

import pytest

from hostvm.agent import config as settings
from hostvm.errors import AgentError
from hostvm.process_id import ProcessId

CONFIG = settings.AgentConfig(
    name="m",
    run_dir="/run/m",
    home="/home/m",
    log="/home/m/agent.log",
    ssh_port=2222,
    client_key="/home/m/keys/client_ed25519",
    host_public_key="ssh-ed25519 AAAA",
    engine_socket="/run/docker.sock",
    console="/home/m/console.log",
)


def test_round_trip(tmp_path):
    settings.store(CONFIG, tmp_path / "m")
    assert settings.load(tmp_path / "m") == CONFIG
    assert settings.spawned(tmp_path / "m") is None
    settings.store(CONFIG, tmp_path / "m", ProcessId(12, 3.5, "boot"))
    assert settings.load(tmp_path / "m") == CONFIG
    assert settings.spawned(tmp_path / "m") == ProcessId(12, 3.5, "boot")
    assert stat.S_IMODE((tmp_path / "m" / "agent.json").stat().st_mode) == 0o600


def test_a_process_of_an_older_hostvm_is_known(tmp_path):
    (tmp_path / "agent.json").write_text('{"process": [12, 3.5]}')
    assert settings.spawned(tmp_path) == ProcessId(12, 3.5)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"process": [1]}', '{"process": [1, 2, "a", "b"]}', '{"name": "m", "unknown": 1}']
)
def test_damaged(tmp_path, text):
    (tmp_path / "agent.json").write_text(text)
    with pytest.raises(AgentError) as caught:
        settings.load(tmp_path)
    assert caught.value.resolution
    assert settings.spawned(tmp_path) is None


def test_places():
    assert CONFIG.agent_sock == "/run/m/agent.sock"
    assert CONFIG.engine_sock == "/run/m/docker.sock"
    assert CONFIG.lock == "/run/m/agent.lock"
