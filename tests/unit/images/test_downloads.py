"""Files of other makers in an image: what the recipe's sha256 promises, or nothing."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import random
import re
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from backports import zstd
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from images.build import recipe_digest
from images.disk import CHUNK, disk_full_explained
from images.downloads import SOURCE, Download, files_of, have_downloads
from images.errors import DiskFullError, HashError, ImageError, MirrorError, RecipeError
from images.own_recipe import load_own_recipe
from images.progress import NullProgress
from images.recipe import find_recipe
from images.sbom import make_sbom
from images.tree import Kind, Node, Tree

ELF = b"\x7fELF" + bytes(range(256)) * 40


@pytest.fixture
def release(tmp_path):
    """A release file as makers of Go programs publish them: its bytes, served at http://makers.test/."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data, mode in (("tool", ELF, 0o755), ("doc/README.md", b"read me", 0o644)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "tool-1.tar.gz").write_bytes(out.getvalue())
    return out.getvalue()


@pytest.fixture
def tool(release):
    """`tool(take=…)`: a download of it."""

    def make(**more):
        known = {"url": "http://makers.test/tool-1.tar.gz", "sha256": hashlib.sha256(release).hexdigest()}
        return Download(**{**known, **more})

    return make


@pytest.fixture
def have(fetcher):
    return lambda *wanted: have_downloads(wanted, "amd64", fetcher.of(SOURCE), NullProgress())


@pytest.fixture
def taken(tmp_path):
    """`taken(download, file)`: path, content and mode of what goes into the image."""

    def take(one, file):
        found = list(files_of(one, file, tmp_path / "store"))
        return [(path, Node(Kind.FILE, mode, content=content).read(), mode) for path, content, mode in found]

    return take


def test_members_are_taken_with_their_modes(have, tool, taken):
    ((one, file),) = have(tool(take={"tool": "usr/local/bin/tool", "doc/README.md": "usr/local/share/read"}))
    assert sorted(taken(one, file)) == [
        ("usr/local/bin/tool", ELF, 0o755),
        ("usr/local/share/read", b"read me", 0o644),
    ]


def test_a_file_itself(have, tool, tmp_path, taken):
    (tmp_path / "served" / "plain").write_bytes(ELF)
    sha = hashlib.sha256(ELF).hexdigest()
    ((one, file),) = have(tool(url="http://makers.test/plain", sha256=sha, to="usr/local/bin/plain"))
    assert taken(one, file) == [("usr/local/bin/plain", ELF, 0o755)]


def test_what_the_cache_has_is_not_asked_for_again(have, tool, adapter):
    have(tool(to="x"))
    adapter.requests.clear()
    have(tool(to="x"))
    assert adapter.requests == []


def test_another_file_than_promised_is_refused_and_not_kept(have, tool, fetcher):
    with pytest.raises(HashError, match="is not what the recipe promises"):
        have(tool(sha256="0" * 64, to="x"))
    assert not fetcher.path("0" * 64).exists()


def test_one_that_is_not_there(have, tool):
    with pytest.raises(MirrorError, match=r"there is no http://makers\.test/none"):
        have(tool(url="http://makers.test/none", to="x"))


def test_one_for_another_architecture_is_left_alone(have, tool, adapter):
    assert have(tool(arch="arm64", to="x")) == []
    assert adapter.requests == []


@pytest.mark.parametrize(
    ("take", "why"),
    [
        ({"toll": "x"}, "it has no toll"),
        ({"link": "x"}, "link is no plain file in it"),
        ({"doc": "x"}, "it has no doc"),
    ],
)
def test_members_that_cannot_be_taken(have, tool, take, why, taken):
    ((one, file),) = have(tool(take=take))
    with pytest.raises(ImageError) as error:
        taken(one, file)
    assert why in error.value.details


def test_no_archive(have, tool, tmp_path, taken):
    (tmp_path / "served" / "plain").write_bytes(ELF)
    one = tool(url="http://makers.test/plain", sha256=hashlib.sha256(ELF).hexdigest(), take={"a": "b"})
    with pytest.raises(ImageError, match="plain cannot be taken into the image"):
        taken(*have(one)[0])


def zstd_packed(path, member):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("tool")
        info.size = len(member)
        tar.addfile(info, io.BytesIO(member))
    path.write_bytes(zstd.compress(out.getvalue(), options={zstd.CompressionParameter.checksum_flag: 1}))
    return path


def test_an_archive_in_zstd(tool, tmp_path, taken):
    """Which tarfile reads since Python 3.14."""
    path = zstd_packed(tmp_path / "tool.tar.zst", ELF)
    one = tool(file=str(path), url="", take={"tool": "usr/local/bin/tool"})
    assert taken(one, path) == [("usr/local/bin/tool", ELF, 0o755)]
    for damaged in (path.read_bytes()[:-30], path.read_bytes()[:20] + bytes(40)):
        path.write_bytes(damaged)
        with pytest.raises(ImageError, match="cannot be taken into the image"):
            taken(one, path)


@pytest.mark.parametrize("packing", ["gz", "xz", "bz2"])
def test_an_archive_that_its_makers_damaged(tool, tmp_path, packing, taken):
    """Its sum is right, so that what is wrong shows when it is unpacked."""
    path = tmp_path / "tool.tar"
    with tarfile.open(path, f"w:{packing}") as tar:
        for name in ("first", "tool"):
            info = tarfile.TarInfo(name)
            info.size = 1 << 20
            tar.addfile(info, io.BytesIO(random.Random(0).randbytes(info.size)))
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + bytes(64) + data[half + 64 :])
    with pytest.raises(ImageError, match="cannot be taken into the image"):
        taken(tool(file=str(path), url="", take={"tool": "x"}), path)


def packed(path, *members):
    """An archive of (name, content) or (name, size in zeros), quickly packed."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = content if isinstance(content, int) else len(content)
            with tempfile.TemporaryFile() as file:
                file.truncate(info.size)
                tar.addfile(info, file if isinstance(content, int) else io.BytesIO(content))
    return path


@pytest.mark.parametrize("how", ["take", "to"])
def test_one_of_any_size_takes_little_memory(tool, tmp_path, how):
    size = 64 << 20
    path = packed(tmp_path / "tool.tar.gz", ("tool", size)) if how == "take" else tmp_path / "tool"
    if how == "to":
        with path.open("wb") as file:
            file.truncate(size)
    one = tool(file=str(path), url="", **({"take": {"tool": "x"}} if how == "take" else {"to": "x"}))
    tracemalloc.start()
    try:
        ((_, content, _),) = files_of(one, path, tmp_path / "store")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert content.size == size
    assert peak < 8 * CHUNK


def test_no_two_are_one_file(tool, tmp_path):
    """Names of one place are hard links of each other, whose modes are one."""
    path = packed(tmp_path / "tool.tar.gz", ("a", b""), ("b", b""), ("c", b"same"), ("d", b"same"))
    tree = Tree()
    for target, content, mode in files_of(tool(take={name: name for name in "abcd"}), path, tmp_path / "store"):
        tree.add_file(target, content, mode)
    tree.chmod("a", 0o600)
    tree.chmod("c", 0o600)
    assert {name: (node.read(), node.mode) for name, node in tree.nodes.items() if name} == {
        "a": (b"", 0o600),
        "b": (b"", 0o644),
        "c": (b"same", 0o600),
        "d": (b"same", 0o644),
    }


@pytest.mark.parametrize(
    ("sizes", "fits"),
    [((1 << 20,), True), (((1 << 20) + 1,), False), ((1 << 19, 1 << 19), True), ((1 << 19, (1 << 19) + 1), False)],
)
def test_no_more_is_taken_than_the_bound(tool, tmp_path, taken, monkeypatch, sizes, fits):
    """Of an archive that is small: each is some KiB."""
    monkeypatch.setattr("images.downloads.MOST", 1 << 20)
    path = packed(tmp_path / "tool.tar.gz", *((str(number), size) for number, size in enumerate(sizes)))
    one = tool(take={str(number): f"there/{number}" for number in range(len(sizes))})
    if fits:
        assert [len(content) for _, content, _ in taken(one, path)] == list(sizes)
        return
    with pytest.raises(ImageError) as error:
        taken(one, path)
    assert error.value.details == "more than 1 MiB would be taken"
    store = tmp_path / "store"
    assert sum(sizes[:-1]) == (store.stat().st_size if store.exists() else 0), "what is too large was not unpacked"


def test_one_of_holes_counts_as_what_it_would_be(tool, tmp_path, taken):
    info = tarfile.TarInfo("tool")
    info.size, info.pax_headers = 4, {"GNU.sparse.map": "0,4", "GNU.sparse.size": str(1 << 40)}
    with tarfile.open(tmp_path / "tool.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"data"))
    with pytest.raises(ImageError) as error:
        taken(tool(take={"tool": "x"}), tmp_path / "tool.tar")
    assert error.value.details == "more than 1024 MiB would be taken"


@pytest.mark.parametrize("how", [{"take": {"tool": "x"}}, {"to": "x"}])
def test_a_full_disk_is_no_fault_of_the_archive(tool, tmp_path, taken, monkeypatch, how):
    path = packed(tmp_path / "tool.tar.gz", ("tool", ELF))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("images.tree.shutil.copyfileobj", full)
    with pytest.raises(DiskFullError, match="no space left"), disk_full_explained(tmp_path):
        taken(tool(**how), path)


RECIPE = """\
name: mine
base: containerd
downloads:
  - file: tool-1.tar.gz
    sha256: {sha}
    take: {{tool: usr/local/bin/tool}}
"""


def test_a_file_beside_the_recipe(tmp_path, release, have, taken):
    (tmp_path / "mine.yaml").write_text(RECIPE.format(sha=hashlib.sha256(release).hexdigest()))
    with pytest.raises(RecipeError, match="is no file beside the recipe"):
        load_own_recipe(tmp_path / "mine.yaml")
    (tmp_path / "tool-1.tar.gz").write_bytes(release)
    recipe = load_own_recipe(tmp_path / "mine.yaml")
    assert taken(*have(*recipe.downloads)[0]) == [("usr/local/bin/tool", ELF, 0o755)]
    (tmp_path / "tool-1.tar.gz").write_bytes(release + b"x")
    with pytest.raises(HashError, match="is not what the recipe promises"):
        have(*recipe.downloads)


ENGINES = (Path(__file__).parents[3] / "docs" / "engines.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("beside", [False, True])
def test_nerdctl_comes_as_its_documentation_says(tmp_path, have, taken, beside):
    """Its makers' archives have it and two scripts side by side."""
    (recipe,) = re.findall(r"```yaml\n(name: nerdctl\n.*?)```", ENGINES, re.DOTALL)
    release = tmp_path / "served" / "nerdctl-1.0-linux-amd64.tar.gz"
    release.parent.mkdir()
    script = b"#!/bin/sh\necho nerdctl version 1.0\n"
    packed(release, ("nerdctl", script), ("containerd-rootless-setuptool.sh", b"#!/bin/sh\n"))
    sha = hashlib.sha256(release.read_bytes()).hexdigest()
    recipe = recipe.replace("VERSION", "1.0").replace("THE SUM IN THE RELEASE'S SHA256SUMS", sha)
    makers = "https://github.com/containerd/nerdctl/releases/download/v1.0/"
    if beside:
        recipe = re.sub(r"- url: \S+\n +# or (file: \S+)\n", r"- \1\n", recipe)
        (tmp_path / release.name).write_bytes(release.read_bytes())
    (tmp_path / "nerdctl.yaml").write_text(recipe.replace(makers, "http://makers.test/"))
    own = load_own_recipe(tmp_path / "nerdctl.yaml")
    assert (own.engine, own.name) == ("containerd", "nerdctl")
    assert {"containerd", "containernetworking-plugins"} <= set(own.packages)
    ((one, file),) = have(*own.downloads)
    assert (one.file, one.url) == (
        (str(tmp_path / release.name), "") if beside else ("", f"http://makers.test/{release.name}")
    )
    assert taken(one, file) == [("usr/local/bin/nerdctl", script, 0o755)]


def test_where_it_comes_from_makes_no_other_image(tool):
    def digest(**more):
        return recipe_digest(dataclasses.replace(find_recipe(), downloads=(tool(to="x", **more),)))

    assert digest() == digest(url="http://mirror.test/same") == digest(url="", file="/there/same")
    assert digest() != digest(sha256="1" * 64)


def test_every_fault_of_the_recipe(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nbase: docker\ndownloads:\n"
        "  - {url: 'ftp://x/y', sha256: abc, to: /usr/bin/x}\n"
        "  - {sha256: '" + "0" * 64 + "', take: {a: ../b}, to: c, arch: m68k}\n"
    )
    with pytest.raises(RecipeError) as error:
        load_own_recipe(tmp_path / "mine.yaml")
    for words in (
        "downloads[0].url: 'ftp://x/y' is not of the form",
        "downloads[0].sha256: 'abc' is not of the form",
        "downloads[0]: '/usr/bin/x' is no path in the image",
        "downloads[1]: must have either url or file",
        "downloads[1]: must have either take or to",
        "downloads[1]: '../b' is no path in the image",
        "downloads[1].arch: must be one of amd64, arm64, is 'm68k'",
    ):
        assert words in error.value.details


def test_they_are_in_the_package_lists(make_image, tool):
    image = make_image(
        downloads=[tool(to="x").facts(), tool(to="y").facts(), tool(url="", file="/a/b", sha256="1" * 64).facts()]
    )
    document = JsonLikeDictParser().parse(json.loads(make_sbom("spdx", image.manifest, image.digest)))
    assert validate_full_spdx_document(document, "SPDX-2.3") == []
    assert {"tool-1.tar.gz", "b"} <= {package.name for package in document.packages}
    text = make_sbom("cyclonedx", image.manifest, image.digest).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
