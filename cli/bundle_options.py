"""The options of `hostvm bundle`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cli.image_options import Verb


def add_bundle_verbs(verbs: Any, verb: Verb) -> None:
    """Add them.

    :param verb: makes one, as manage.py does.
    """
    bundle = verbs.add_parser("bundle", help="everything for a site without a network, in one file")
    parts = bundle.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(bundle))
    create = verb(
        parts,
        "create",
        "bundle:create",
        "write guest image, base images, emulators, hostvm and the Python packages it needs to one file",
        "hostvm bundle create -o site.hostvm --base debian:trixie --base busybox@linux/arm64 --sign team",
        named=False,
    )
    create.add_argument("-o", "--output", metavar="FILE", required=True, help="where to; - is standard output")
    create.add_argument(
        "--image", action="append", default=[], metavar="REF", help="a guest image (default: docker); repeatable"
    )
    create.add_argument(
        "--base",
        action="append",
        default=[],
        metavar="IMAGE[@PLATFORM]",
        help="a base image as `image base` makes it; repeatable",
    )
    create.add_argument("--mirror", metavar="URL", help="Debian mirror (default: http://deb.debian.org/debian)")
    create.add_argument("--wheels", metavar="DIR", help="take these wheels instead of having pip make them")
    create.add_argument("--no-wheels", action="store_true", help="without hostvm itself")
    create.add_argument("--sign", metavar="KEY", help="sign with one's own key of that name (see `image key`)")
    load = verb(
        parts,
        "load",
        "bundle:load",
        "check a bundle and store what it holds",
        "hostvm bundle load site.hostvm",
        "ssh other cat site.hostvm | hostvm bundle load -",
        named=False,
    )
    load.add_argument("file", metavar="FILE", help="what `bundle create` wrote; - is standard input")
    load.add_argument("--allow-unsigned", action="store_true", help="take it though nobody vouches for it")
