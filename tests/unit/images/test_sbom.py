"""The published schemas and the checkers of their authors, as PyPI has them, say whether the lists are valid."""

from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from images.sbom import make_sbom, purl


@pytest.fixture
def image(make_image):
    return make_image()


def test_spdx_is_valid(image):
    document = JsonLikeDictParser().parse(json.loads(make_sbom("spdx", image.manifest, image.digest)))
    assert validate_full_spdx_document(document, "SPDX-2.3") == []
    assert {package.name for package in document.packages} == {"docker", "libc6", "libstdc++6", "openssl"}
    assert len(document.relationships) == 4


def test_cyclonedx_is_valid(image):
    text = make_sbom("cyclonedx", image.manifest, image.digest).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert {component["name"] for component in json.loads(text)["components"]} == {"libc6", "libstdc++6", "openssl"}


def test_the_checkers_can_say_no(image):
    data = json.loads(make_sbom("cyclonedx", image.manifest, image.digest))
    data["components"][0]["type"] = "nonsense"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(data)) is not None
    data = json.loads(make_sbom("spdx", image.manifest, image.digest))
    data["packages"][1]["SPDXID"] = "SPDXRef-libstdc++6"
    assert validate_full_spdx_document(JsonLikeDictParser().parse(data), "SPDX-2.3") != []


def test_the_same_image_gives_the_same_list(image):
    for form in ("spdx", "cyclonedx"):
        assert make_sbom(form, image.manifest, image.digest) == make_sbom(form, dict(image.manifest), image.digest)


def test_package_urls():
    package = {"name": "libstdc++6", "version": "1:14.2~rc1-19+b1", "arch": "amd64"}
    expected = "pkg:deb/debian/libstdc%2B%2B6@1:14.2~rc1-19%2Bb1?arch=amd64&distro=debian-trixie"
    assert purl(package, "trixie") == expected
