from __future__ import annotations

import io
import os
import sys
import tarfile

import pytest

from cli.build_context import Build, ContextStream, find_build, guest_argv, named_paths
from hostvm.errors import ForwardError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    app = tmp_path / "app"
    (app / "docker").mkdir(parents=True)
    (app / "Dockerfile").write_text("FROM scratch\n")
    (app / "docker" / "Other").write_text("FROM busybox\n")
    (tmp_path / "Outside").write_text("FROM debian\n")
    monkeypatch.chdir(tmp_path)
    return app


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["build", "app"], ["build", "."]),
        (["build", "-t", "web", "app"], ["build", "-t", "web", "."]),
        (["build", "app", "-t", "web"], ["build", ".", "-t", "web"]),
        (["buildx", "build", "--no-cache", "--build-arg", "A=1", "app"],) * 2,
        (["image", "build", "--pull", "-q", "app"], ["image", "build", "--pull", "-q", "."]),
        (["build", "-f", "app/docker/Other", "app"], ["build", "-f", "docker/Other", "."]),
        (["build", "--file=app/docker/Other", "app"], ["build", "--file=docker/Other", "."]),
        (["build", "-f", "Outside", "app"], ["build", "-f", "../Dockerfile", "."]),
        (["build", "-fapp/docker/Other", "app"], ["build", "-fdocker/Other", "."]),
        (["build", "-f=app/docker/Other", "app"], ["build", "-f=docker/Other", "."]),
        (["build", "-fOutside", "app"], ["build", "-f../Dockerfile", "."]),
        (["build", "-qf", "app/docker/Other", "app"], ["build", "-qf", "docker/Other", "."]),
        (["build", "-qfOutside", "app"], ["build", "-qf../Dockerfile", "."]),
        (["build", "app", "-qt", "web"], ["build", ".", "-qt", "web"]),
        (["build", "-t", "web", "--", "app"], ["build", "-t", "web", "--", "."]),
        (["-D", "build", "app"], ["-D", "build", "."]),
        (["--log-level", "debug", "buildx", "build", "app"], ["--log-level", "debug", "buildx", "build", "."]),
        (["buildx", "--builder", "b", "build", "app"], ["buildx", "--builder", "b", "build", "."]),
        (["buildx", "--builder=b", "-D", "b", "app"], ["buildx", "--builder=b", "-D", "b", "."]),
        (["build", "--layers", "app"],) * 2,
        (["image", "build", "--squash-all", "app", "--tls-verify"],) * 2,
        (["build", "--file=", "app", "-f"], ["build", "--file=", ".", "-f"]),
        (["build", "-f", "-", "app"], ["build", "-f", "../Dockerfile", "."]),
        (["build", "-f-", "app"], ["build", "-f../Dockerfile", "."]),
        (["build", "--file=/dev/stdin", "app"], ["build", "--file=../Dockerfile", "."]),
    ],
)
def test_the_folder_becomes_the_working_folder(folder, words, changed):
    build = find_build(words)
    assert build is not None
    wanted = [word if word != "app" else "." for word in changed] if words == changed else changed
    assert list(build.words) == wanted
    assert build.context.resolve() == folder


@pytest.mark.parametrize(
    "words",
    [
        ["build", "-"],
        ["build", "https://example.com/repo.git"],
        ["build", "git@example.com:repo.git"],
        ["build", "nowhere"],
        ["build", "-t", "app"],
        ["run", "build", "app"],
        ["buildx", "--builder", "build", "app"],
        ["buildx", "inspect", "build", "app"],
        ["ps"],
    ],
)
def test_what_is_no_folder_of_this_computer_is_left_alone(folder, words):
    assert find_build(words) is None


@pytest.mark.parametrize("words", [["--build-context", "more=more"], ["--build-context=more=more"]])
def test_folders_of_other_contexts_travel_along(folder, words):
    (folder.parent / "more").mkdir()
    (folder.parent / "more" / "file").write_text("of another folder")
    assert named_paths(["build", *words, "app"]) == [str(folder), str(folder.parent / "more")]
    build = find_build(["build", *words, "--build-context", "base=docker-image://debian", "app"])
    assert [*build.words] == [
        *("build", *([words[0], "more=../context-1"] if len(words) > 1 else ["--build-context=more=../context-1"])),
        *("--build-context", "base=docker-image://debian", "."),
    ]
    stream = ContextStream(build)
    with os.fdopen(stream.descriptor, "rb") as pipe, tarfile.open(fileobj=io.BytesIO(pipe.read())) as tar:
        assert tar.extractfile("context-1/file").read() == b"of another folder"
        assert tar.extractfile("context/Dockerfile").read() == b"FROM scratch\n"
        assert tar.getnames()[-1] == "complete"
    stream.check()


def test_the_stream_holds_the_folder_and_an_outer_dockerfile(folder):
    (folder / "link").symlink_to("Dockerfile")
    os.mkfifo(folder / "pipe")
    build = find_build(["build", "-f", "Outside", "app"])
    with os.fdopen(ContextStream(build).descriptor, "rb") as pipe, tarfile.open(fileobj=pipe, mode="r|") as tar:
        members = {member.name: member for member in tar}
    assert set(members) == {
        "context",
        "context/Dockerfile",
        "context/docker",
        "context/docker/Other",
        "context/link",
    } | {"Dockerfile", "complete"}
    assert all((member.uid, member.gid) == (0, 0) for member in members.values())


@pytest.mark.parametrize("words", [["-f", "-"], ["-f-"], ["--file=-"]])
def test_a_dockerfile_on_standard_input_travels_along(folder, monkeypatch, words):
    """`docker build -f - . <<EOF`: the stream of the context is what the guest's client has there."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"FROM alpine\n")))
    stream = ContextStream(find_build(["build", *words, "app"]))
    with os.fdopen(stream.descriptor, "rb") as pipe, tarfile.open(fileobj=io.BytesIO(pipe.read())) as tar:
        assert tar.extractfile("Dockerfile").read() == b"FROM alpine\n"
        assert tar.extractfile("context/Dockerfile").read() == b"FROM scratch\n"
    stream.check()


@pytest.mark.parametrize("end", [".dockerignore", ".containerignore"])
def test_an_outer_dockerfile_has_its_own_list_of_what_to_leave_out(folder, end):
    (folder / ".dockerignore").write_text("everybody's\n")
    (folder.parent / ".dockerignore").write_text("of another context\n")
    (folder.parent / f"Outside{end}").write_text("its own\n")
    stream = ContextStream(find_build(["build", "-f", "Outside", "app"]))
    with os.fdopen(stream.descriptor, "rb") as pipe, tarfile.open(fileobj=io.BytesIO(pipe.read())) as tar:
        assert tar.extractfile(f"Dockerfile{end}").read() == b"its own\n"
        assert [name for name in tar.getnames() if "ignore" in name] == ["context/.dockerignore", f"Dockerfile{end}"]
        assert tar.getnames()[-1] == "complete"
    stream.check()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_it_lies_beside_the_name_that_was_typed(folder):
    (folder / "Linked").symlink_to("../Outside")
    (folder.parent / "Outside.dockerignore").write_text("of another name\n")
    (folder.parent / "list").write_text("its own\n")
    (folder / "Linked.dockerignore").symlink_to("../list")
    stream = ContextStream(find_build(["build", "-f", "app/Linked", "app"]))
    with os.fdopen(stream.descriptor, "rb") as pipe, tarfile.open(fileobj=io.BytesIO(pipe.read())) as tar:
        assert tar.extractfile("Dockerfile.dockerignore").read() == b"its own\n"
    stream.check()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_lead_where_they_lead_here(folder):
    (folder.parent / "link").symlink_to(folder)
    (folder.parent / "Linked").symlink_to("Outside")
    build = find_build(["build", "-f", "Linked", "link"])
    stream = ContextStream(build)
    with os.fdopen(stream.descriptor, "rb") as pipe, tarfile.open(fileobj=io.BytesIO(pipe.read())) as tar:
        assert tar.getmember("context").isdir()
        assert tar.extractfile("context/Dockerfile").read() == b"FROM scratch\n"
        assert tar.extractfile("Dockerfile").read() == b"FROM debian\n"
    stream.check()


def test_the_guest_runs_the_exact_words(folder):
    argv = guest_argv(("docker",), find_build(["build", "-t", "a b", "app"]))
    assert argv[:2] == ["/bin/sh", "-c"]
    assert argv[4:] == ["docker", "build", "-t", "a b", "."]


def test_paths_that_a_build_names(tmp_path, monkeypatch):
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    assert named_paths(["build", "-t", "x", "app"]) == [f"{here}/app"]
    assert named_paths(["buildx", "build", "-f", "app/D", "."]) == [here, f"{here}/app/D"]
    assert named_paths(["build", "-f", "-", "."]) == named_paths(["-D", "build", "-f-", "."]) == [here]
    assert named_paths(["build", "-f", "D-", "."]) == [here, f"{here}/D-"]
    assert named_paths(["build", "-"]) == named_paths(["ps"]) == named_paths(["build", "https://x/y.git"]) == []


def _members(descriptor, *start):
    with os.fdopen(descriptor, "rb") as stream:
        whole = io.BytesIO(b"".join(start) + stream.read())
    with tarfile.open(fileobj=whole, mode="r|") as tar:
        return [member.name for member in tar]


def test_a_part_of_the_folder_is_no_whole_stream(folder):
    (folder / "a-large").write_bytes(bytes(1 << 20))
    (folder / "z").write_text("gone before it is read, after it was listed")
    stream = ContextStream(Build((), folder, None))
    first = os.read(stream.descriptor, 1)
    (folder / "z").unlink()
    assert "complete" not in _members(stream.descriptor, first)
    with pytest.raises(ForwardError) as caught:
        stream.check()
    assert str(folder / "z") in caught.value.brief


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(folder):
    (folder / "secret").touch(mode=0)
    stream = ContextStream(Build((), folder, None))
    assert "complete" not in _members(stream.descriptor)
    with pytest.raises(ForwardError, match="secret") as caught:
        stream.check()
    assert caught.value.details == "Permission denied"


def test_a_whole_stream_is_no_fault(folder):
    stream = ContextStream(Build((), folder, None))
    assert _members(stream.descriptor)[-1] == "complete"
    stream.check()
