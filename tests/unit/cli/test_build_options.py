"""What a build names beside its context, for the guest's client."""

from __future__ import annotations

import os
import posixpath

import pytest

from cli import engine_words
from cli.build_options import with_places
from hostvm.errors import ForwardError
from hostvm.shares.model import Mount


@pytest.fixture
def places(tmp_path, monkeypatch):
    """`places(LINE)`: what becomes of it in a folder that is not shared; `shared` beside it is."""
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent.sock")
    (tmp_path / "app").mkdir()
    (tmp_path / "shared").mkdir()
    monkeypatch.chdir(tmp_path)

    def change(line, *, carried=True):
        def in_guest(paths):
            return all(path.startswith(str(tmp_path / "shared")) for path in paths)

        words = with_places(line.split(), in_guest, str, " -m box", carried=carried)
        return " ".join(words).replace(str(tmp_path), "HERE")

    return change


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("build -o shared/out app", "build -o type=local,dest=HERE/shared/out app"),
        ("build -oshared/out app", "build -otype=local,dest=HERE/shared/out app"),
        ("build -qo shared/out app", "build -qo type=local,dest=HERE/shared/out app"),
        ("build app --output=type=tar,dest=shared/a.tar", "build app --output=type=tar,dest=HERE/shared/a.tar"),
        ("build -o dest=shared/a,type=local app", "build -o type=local,dest=HERE/shared/a app"),
        ('build -o "dest=shared/a,b.tar",type=tar app', 'build -o type=tar,"dest=HERE/shared/a,b.tar" app'),
        ("build -o TYPE=tar,Dest=shared/a.tar app", "build -o TYPE=tar,dest=HERE/shared/a.tar app"),
        ("build -o type=tar,dest=/dev/stdout app", "build -o type=tar,dest=- app"),
        ("build --cache-to type=local,dest=shared/c app", "build --cache-to type=local,dest=HERE/shared/c app"),
        ("build --cache-from=src=shared/c,type=local app", "build --cache-from=type=local,src=HERE/shared/c app"),
        ("build --ssh k=shared/key app", "build --ssh k=HERE/shared/key app"),
        ("build --ssh default=/tmp/agent.sock app", "build --ssh default app"),
    ],
)
def test_what_is_shared_is_named_by_its_whole_path(places, line, changed):
    """The client in the guest has another working folder, or the builds' own, which goes when they end."""
    assert places(line) == changed


@pytest.mark.parametrize(
    "line",
    [
        "build -o - app",
        "build -o type=docker app",
        "build --output type=image,push=true app",
        "build -o type=tar,dest=- app",
        "build -o type=tar,dest=/dev/null app",
        "build --cache-from user/app:cache app",
        "build --cache-to type=inline app",
        "build --cache-from type=registry,ref=user/app app",
        "build --ssh default app",
        "build --ssh=default app",
        "build --secret id=a,env=A app",
        "build --build-context base=docker-image://debian app",
        "build --build-context base=https://example.com/a.git app",
        "build --build-context more=app app",
        "build -t -o app",
        "build --output= --ssh= --file= app --ssh",
        "run image build -o out",
        "save -o out image",
    ],
)
def test_what_names_no_place_of_this_computer_stays(places, line):
    assert places(line) == line


@pytest.mark.parametrize(
    ("line", "way"),
    [
        ("build -o out app", "mkdir -p HERE/out|hostvm mount add HERE/out -m box"),
        ("build -oapp app", "hostvm mount add HERE/app -m box"),
        ("build -o type=local,dest=out -", "mkdir -p HERE/out|hostvm mount add HERE/out -m box"),
        ("build -o type=oci,dest=app/a.tar https://example.com/a.git", "hostvm mount add HERE/app -m box"),
        ("build -o dest=app/a.tar,type=tar app", "hostvm mount add HERE/app -m box"),
        ("build --cache-to type=local,dest=out app", "mkdir -p HERE/out|hostvm mount add HERE/out -m box"),
        ("build --cache-from type=local,src=app app", "hostvm mount add HERE/app -m box"),
        ("build --ssh k=key app", "ssh-add HERE/key   # then: --ssh k"),
    ],
)
def test_what_is_not_shared_is_refused_with_what_mends_it(places, tmp_path, line, way):
    with pytest.raises(ForwardError, match="is not shared with the machine at the same path") as error:
        places(line)
    *told, last = error.value.resolution.replace(str(tmp_path), "HERE").splitlines()
    assert told == way.split("|")
    assert "install a client here" in last


@pytest.mark.parametrize("value", ["out", "type=local, dest=out"])
def test_a_folder_whose_name_has_a_comma_is_one_field_for_docker(tmp_path, monkeypatch, value):
    """`--output` is a line of CSV; docker told of an invalid value, which nobody had typed."""
    folder = tmp_path / "a,b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    changed = with_places(["build", "-o", value, "."], lambda _: True, str, "", carried=True)
    assert changed == ["build", "-o", f'type=local,"dest={folder}/out"', "."]


def test_another_context_must_be_shared_where_nothing_is_carried(places):
    with pytest.raises(ForwardError) as error:
        places("build --build-context more=app -", carried=False)
    assert "hostvm mount add" in error.value.resolution
    assert places("build --build-context more=shared -", carried=False) == "build --build-context more=HERE/shared -"


@pytest.mark.parametrize("shared", [True, False], ids=["context shared", "context not shared"])
def test_a_build_of_a_shared_folder_writes_nothing_in_the_guest(tmp_path, monkeypatch, shared):
    """It was written to the guest's own folder of that name, unseen here, and gone with the machine's stop."""
    app, out = tmp_path / "app", tmp_path / "out"
    app.mkdir()
    out.mkdir()
    mounts = [Mount(str(app), str(app))] if shared else []
    monkeypatch.setattr("hostvm.agent.client.agent_is_ready", lambda _: True)
    monkeypatch.setattr("hostvm.shares.client.shared_mounts", lambda _: mounts)
    ran = []
    monkeypatch.setattr(engine_words, "_forward", lambda _, argv, **__: ran.append(argv) or 0)
    monkeypatch.chdir(app)
    with pytest.raises(ForwardError):
        engine_words._run_in_guest("box", ("docker",), ["build", "-o", "../out", "."])
    assert ran == []
    mounts.append(Mount(str(out), str(out)))
    assert engine_words._run_in_guest("box", ("docker",), ["build", "-o", "../out", "."]) == 0
    assert ran[0][-4:] == ["build", "-o", f"type=local,dest={posixpath.join(os.fspath(tmp_path), 'out')}", "."]
