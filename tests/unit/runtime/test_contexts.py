from __future__ import annotations

import json

import pytest

from hostvm.errors import HostvmError
from runtime.docker.contexts import MachineContext, context_name

HOST = "unix:///run/user/1000/hostvm/default/docker.sock"
# sha256 of "hostvm", as docker's own store names the folder
FOLDER = "51cba93a6cefd87fd8f2f8f8d97da1d47052b43a9558a887145d132dbc7e45c9"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home" / "machines" / "default").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def config(tmp_path):
    return tmp_path / "docker"


@pytest.fixture
def context(config, home):
    return MachineContext(config, "default", home)


def settings(config):
    return json.loads((config / "config.json").read_text())


def test_names():
    assert (context_name("default"), context_name("ci")) == ("hostvm", "hostvm-ci")


def test_the_file_is_dockers_own(context, config, home):
    assert context.write(HOST)
    assert json.loads(context.path.read_text()) == {
        "Name": "hostvm",
        "Metadata": {"Description": "hostvm machine default", "hostvm": {"machine": "default", "home": str(home)}},
        "Endpoints": {"docker": {"Host": HOST, "SkipTLSVerify": False}},
    }
    assert context.path.relative_to(config).as_posix() == f"contexts/meta/{FOLDER}/meta.json"
    assert not (config / "config.json").exists(), "the context in use is nobody's business unless asked for"
    assert config.stat().st_mode & 0o077 == 0


def test_written_once_and_set_right_when_the_socket_moved(context):
    assert context.write(HOST)
    before = context.path.stat().st_mtime_ns
    assert not context.write(HOST)
    assert context.path.stat().st_mtime_ns == before
    assert context.write("unix:///elsewhere/docker.sock")
    assert context.describe()["host"] == "unix:///elsewhere/docker.sock"


@pytest.mark.parametrize("text", ['{"Name": "hostvm", "Metadata": {}}', "no json", '{"Metadata": {"hostvm": 1}}', "[]"])
def test_a_foreign_context_stays_as_it_is(context, text):
    context.path.parent.mkdir(parents=True)
    context.path.write_text(text)
    with pytest.raises(HostvmError) as caught:
        context.write(HOST)
    assert "docker context rm hostvm" in caught.value.resolution
    context.remove()
    assert context.path.read_text() == text
    assert context.describe()["state"] == "foreign"


def test_the_context_of_another_home_is_taken_over_only_when_its_machine_is_gone(config, home, tmp_path, context):
    other = tmp_path / "other"
    (other / "machines" / "default").mkdir(parents=True)
    MachineContext(config, "default", other).write(HOST)
    with pytest.raises(HostvmError):
        context.write(HOST)
    context.remove()
    assert context.path.exists()
    (other / "machines" / "default").rmdir()
    assert context.write(HOST)
    assert context.describe()["state"] == "ours"


def test_use_and_give_back(context, config):
    config.mkdir()
    mine = {"auths": {"é": {}}, "currentContext": "mine", "psFormat": "x"}
    (config / "config.json").write_text(json.dumps(mine))
    (config / "config.json").chmod(0o640)
    MachineContext(config, "other", config).write(HOST)
    context.write(HOST)
    assert context.use()
    assert not context.use()
    assert settings(config) == {**mine, "currentContext": "hostvm"}
    assert (config / "config.json").stat().st_mode & 0o777 == 0o640
    context.write("unix:///moved.sock")  # a later start keeps what was in use before
    context.remove()
    # "mine" is no context any more, so docker's default it is.
    assert settings(config) == {"auths": {"é": {}}, "psFormat": "x"}
    assert not context.path.parent.exists()


def test_what_was_in_use_before_comes_back(context, config):
    before = MachineContext(config, "ci", config)
    for one in (before, context):
        one.write(HOST)
        one.use()
    context.remove()
    assert settings(config) == {"currentContext": "hostvm-ci"}
    before.remove()
    assert settings(config) == {}


def test_a_choice_made_since_is_left_alone(context, config):
    context.write(HOST)
    context.use()
    (config / "config.json").write_text('{"currentContext": "theirs"}')
    context.remove()
    context.remove()
    assert settings(config) == {"currentContext": "theirs"}


def test_a_linked_config_stays_a_link(context, config, tmp_path):
    config.mkdir()
    (tmp_path / "dotfiles.json").write_text("{}")
    (config / "config.json").symlink_to(tmp_path / "dotfiles.json")
    context.write(HOST)
    context.use()
    assert (config / "config.json").is_symlink()
    assert json.loads((tmp_path / "dotfiles.json").read_text()) == {"currentContext": "hostvm"}


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_settings_are_named_and_kept(context, config, text):
    context.write(HOST)
    (config / "config.json").write_text(text)
    with pytest.raises(HostvmError) as caught:
        context.use()
    assert "config.json" in caught.value.details
    assert (config / "config.json").read_text() == text
    assert context.describe()["state"] == "unreadable"
