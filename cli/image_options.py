"""The verbs of `hostvm image` and their options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TypeAlias

    Verb: TypeAlias = Callable[..., argparse.ArgumentParser]

_REF = "a recipe's name, a digest or its beginning, or a registry reference"


def add_image_verbs(verbs: Any, verb: Verb) -> None:
    """Add `hostvm image`.

    :param verb: makes one of its verbs, as manage.py does.
    """
    image = verbs.add_parser("image", help="guest images, and container base images made offline")
    parts = image.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(image))
    build = verb(
        parts,
        "build",
        "image:build",
        "build a guest image from Debian's signed packages",
        "hostvm image build",
        "hostvm image build --arch arm64 --mirror http://mirror.example/debian",
        named=False,
    )
    build.add_argument("--arch", choices=("amd64", "arm64"), help="default: this computer's")
    for one in (build, _add_base_verb(parts, verb)):
        one.add_argument("--mirror", metavar="URL", help="Debian mirror (default: http://deb.debian.org/debian)")
        one.add_argument("--suite", metavar="NAME", help="Debian suite (default: the recipe's, trixie)")
    build.add_argument("recipe", nargs="?", metavar="RECIPE", help="one of hostvm's own (default: docker)")
    build.add_argument("--recipe", dest="recipe_file", type=Path, metavar="FILE", help="a recipe of one's own, YAML")
    build.add_argument("--package", action="append", default=[], metavar="NAME", help="add a package; repeatable")
    build.add_argument("--name", metavar="NAME", help="call the image so (with --package: RECIPE-custom)")
    verb(parts, "ls", "image:ls", "list guest images", "hostvm image ls", named=False)
    for name, text in (("inspect", "a guest image's manifest, as JSON"), ("rm", "delete a guest image")):
        look = verb(parts, name, f"image:{name}", text, f"hostvm image {name} docker", named=False)
        look.add_argument("reference", metavar="REF", help="a recipe's name, or a digest or its beginning")
        if name == "inspect":
            look.add_argument("--sbom", choices=("spdx", "cyclonedx"), help="its package list in that form instead")
    _add_file_verbs(parts, verb)
    _add_registry_verbs(parts, verb)
    _add_compare_verbs(parts, verb)
    _add_prune_verb(parts, verb)
    _add_key_verbs(parts, verb)


def _add_base_verb(parts: Any, verb: Verb) -> argparse.ArgumentParser:
    base = verb(
        parts,
        "base",
        "image:base",
        "make a container base image from Debian's packages, without a registry",
        "hostvm image base debian:trixie",
        "hostvm image base busybox:latest --platform linux/arm64",
        "hostvm image base distroless-python --nonroot",
        "hostvm image base debian:bookworm -o debian.tar --format oci",
        "hostvm image base debian:trixie --package python3-minimal --tag python:slim",
        named=False,
    )
    base.add_argument("image", metavar="IMAGE", help="debian:SUITE, distroless-python:SUITE or busybox:latest")
    base.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write a tar instead of loading it; - is standard output; FOLDER/ with --format oci",
    )
    base.add_argument(
        "--format",
        choices=("docker", "oci"),
        default="docker",
        help="docker: what `docker load` and OCI tools read (default); oci: an OCI layout alone",
    )
    base.add_argument("--nonroot", action="store_true", help="distroless-python: containers run as user 65532, nonroot")
    base.add_argument("--package", action="append", default=[], metavar="NAME", help="add a package; repeatable")
    base.add_argument(
        "--stored", action="store_true", help="as it was made before, or came in a bundle; no mirror is asked"
    )
    base.add_argument("--tag", metavar="REF", help="name it otherwise")
    base.add_argument(
        "--platform",
        "--arch",
        dest="arch",
        metavar="PLATFORM",
        help="for example linux/arm64 (default: the machine's, or this computer's with -o)",
    )
    return base


def _add_file_verbs(parts: Any, verb: Verb) -> None:
    export = verb(
        parts,
        "export",
        "artefact:export",
        "write a guest image to one file, with its package list and signatures",
        "hostvm image export docker -o docker.hostvm",
        "hostvm image export docker -o docker.hostvm --sign team",
        "hostvm image export docker -o - | ssh other hostvm image import -",
        named=False,
    )
    export.add_argument("reference", metavar="REF", help=_REF)
    export.add_argument("-o", "--output", metavar="FILE", required=True, help="where to; - is standard output")
    _add_sign(export)
    taken = verb(
        parts,
        "import",
        "artefact:import_",
        "check and store a guest image from a file",
        "hostvm image import docker.hostvm",
        "hostvm image import --allow-unsigned docker.hostvm",
        named=False,
    )
    taken.add_argument("file", metavar="FILE", help="what `image export` wrote; - is standard input")
    _add_allow(taken)


def _add_registry_verbs(parts: Any, verb: Verb) -> None:
    push = verb(
        parts,
        "push",
        "image_registry:push",
        "send a guest image to an OCI registry, with its package list and signatures",
        "hostvm image push docker registry.example/team/docker:1 --sign team",
        "hostvm image push docker localhost:5000/docker:1",
        named=False,
    )
    push.add_argument("reference", metavar="REF", help=_REF)
    push.add_argument("target", metavar="REGISTRY/NAME:TAG", help="where to")
    _add_sign(push)
    pull = verb(
        parts,
        "pull",
        "image_registry:pull",
        "fetch, check and store a guest image from an OCI registry",
        "hostvm image pull registry.example/team/docker:1",
        "hostvm image pull localhost:5000/docker@sha256:04fa92bb…",
        "hostvm image pull --arch arm64 registry.example/team/docker:1",
        named=False,
    )
    pull.add_argument("reference", metavar="REGISTRY/NAME[:TAG|@DIGEST]", help="the image; default tag: latest")
    pull.add_argument(
        "--arch",
        choices=("amd64", "arm64"),
        help="of which it has to be; of a list of images (default: this computer's)",
    )
    _add_allow(pull)
    for one in (push, pull):
        one.add_argument("--cacert", metavar="FILE", help="certificates to trust instead of the system's (PEM)")
        one.add_argument(
            "--insecure", action="store_true", help="allow plain HTTP, and certificates nobody vouches for"
        )


def _add_sign(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--sign", metavar="KEY", help="sign with one's own key of that name (see `image key`)")


def _add_allow(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--allow-unsigned", action="store_true", help="take it though nobody vouches for it")


def _add_compare_verbs(parts: Any, verb: Verb) -> None:
    diff = verb(
        parts,
        "diff",
        "image_facts:diff",
        "what differs between two guest images: packages, versions, kernel",
        "hostvm image diff 04fa92 5c9b76",
        named=False,
    )
    diff.add_argument("before", metavar="REF", help=_REF)
    diff.add_argument("after", metavar="REF", help="the other one")
    outdated = verb(
        parts,
        "outdated",
        "image_facts:outdated",
        "packages of a guest image that the archive has newer versions of, security updates marked",
        "hostvm image outdated",
        "hostvm image outdated --json docker",
        named=False,
    )
    outdated.add_argument("reference", nargs="?", default="docker", metavar="REF", help=f"default: docker; {_REF}")
    outdated.add_argument("--mirror", metavar="URL", help="Debian mirror (default: http://deb.debian.org/debian)")


def _add_prune_verb(parts: Any, verb: Verb) -> None:
    prune = verb(
        parts,
        "prune",
        "image:prune",
        "remove guest images that no machine boots, but the newest of each, and what was left unfinished",
        "hostvm image prune --dry-run",
        "hostvm image prune --all        # the newest and all downloaded packages too",
        named=False,
    )
    prune.add_argument("-n", "--dry-run", action="store_true", help="only tell what would be removed")
    prune.add_argument("-a", "--all", action="store_true", help="also the newest images, and downloaded packages")


def _add_key_verbs(parts: Any, verb: Verb) -> None:
    key = parts.add_parser("key", help="keys that guest images are signed with, and those that are trusted")
    verbs = key.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(key))
    new = verb(verbs, "new", "artefact:key_new", "make a key of one's own", "hostvm image key new team", named=False)
    new.add_argument("key", metavar="NAME", help="what to call it")
    verb(verbs, "ls", "artefact:key_ls", "the trusted keys, one's own among them", "hostvm image key ls", named=False)
    trust = verb(
        verbs,
        "trust",
        "artefact:key_trust",
        "take images that this key signed",
        "hostvm image key trust team.pub",
        "hostvm image key trust RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3 --name team",
        named=False,
    )
    trust.add_argument("file", metavar="FILE", help="a minisign public key file, or the line that begins with RW")
    trust.add_argument("--name", dest="key", metavar="NAME", help="what to call it (default: the file's name)")
    rm = verb(
        verbs, "rm", "artefact:key_rm", "trust a key no more; one's own is deleted", "hostvm image key rm team",
        named=False,
    )  # fmt: skip
    rm.add_argument("key", metavar="NAME", help="see `image key ls`")
    rm.add_argument("-f", "--force", action="store_true", help="do not ask")
