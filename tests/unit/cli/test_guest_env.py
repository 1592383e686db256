import sys

from cli.guest_env import engine_env, plain_env, project_env


def test_the_users_variables_travel():
    environ = {"MY_TOKEN": "x y", "DOCKER_BUILDKIT": "1", "COMPOSE_PROFILES": "a", "http_proxy": "http://p"}
    assert engine_env(environ) == environ


def test_proxies_of_this_computers_loopback_are_spelled_for_the_guest():
    environ = {"http_proxy": "http://u:p@127.0.0.1:3128/", "HTTPS_PROXY": "http://p.example", "NO_PROXY": "localhost"}
    assert engine_env(environ) == {**environ, "http_proxy": "http://u:p@host.docker.internal:3128/"}


def test_what_describes_this_computer_stays():
    environ = {
        **dict.fromkeys(["PATH", "HOME", "USER", "PWD", "SHELL", "TERM", "TMPDIR", "LANG", "IFS", "ENV", "UID"], "x"),
        **dict.fromkeys(["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "SSH_AUTH_SOCK", "LD_PRELOAD"], "x"),
        **dict.fromkeys(["PYTHONPATH", "XDG_RUNTIME_DIR", "HOSTVM_HOME", "LC_ALL", "DYLD_LIBRARY_PATH"], "x"),
    }
    assert engine_env(environ) == {}


def test_windows_own_variables_stay_on_windows_only(monkeypatch):
    environ = dict.fromkeys(["APPDATA", "OS", "PUBLIC", "WINDIR", "PROCESSOR_LEVEL", "MSYSTEM"], "x")
    assert engine_env(environ) == dict(sorted(environ.items()))
    monkeypatch.setattr(sys, "platform", "win32")
    assert engine_env({**environ, "MINE": "1"}) == {"MINE": "1"}


def test_names_no_shell_can_hold_stay():
    assert engine_env({"BASH_FUNC_x%%": "() { :; }", "a-b": "1", "ProgramFiles(x86)": "c", "é": "1", "A": "1"}) == {
        "A": "1"
    }


def test_too_much_is_cut_from_the_longest():
    environ = {"BIG": "x" * 70_000, "SMALL": "1", "MIDDLE": "y" * 30_000}
    assert sorted(engine_env(environ)) == ["MIDDLE", "SMALL"]


def test_plain():
    assert plain_env({"NO_COLOR": "1", "TZ": "UTC", "SECRET": "x"}) == {"NO_COLOR": "1", "TZ": "UTC"}


def test_home_and_user_of_a_compose_file_are_this_computers():
    """`~/.aws:/root/.aws` was a folder of the guest's own."""
    environ = {"HOME": "/home/ann", "USER": "ann", "LOGNAME": "ann", "PATH": "/bin"}
    assert project_env(environ, "/there/.docker") == {
        "HOME": "/home/ann",
        "USER": "ann",
        "LOGNAME": "ann",
        "DOCKER_CONFIG": "/there/.docker",
    }
    assert project_env({}, "/there/.docker") == {}


def test_a_home_of_windows_is_spelled_for_the_guest(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert project_env({"USERPROFILE": "C:\\Users\\ann", "HOME": "/x"}, "/d")["HOME"] == "/c/Users/ann"
