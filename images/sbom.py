"""The list of an image's packages in the two forms that scanners read: SPDX 2.3 and CycloneDX 1.6, both JSON.

Pure, and the same image gives the same bytes: dates are the image's, identifiers come from its digest. Licences
are NOASSERTION: Debian states them per file in prose, and the image carries those files (usr/share/doc).
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

SPDX, CYCLONEDX = "spdx", "cyclonedx"
TOOL = "hostvm"
_NAMESPACE = uuid.UUID("3f0c9a52-7d8f-4c0c-9d7c-5f6f2f1f8f0a")  # any constant will do
_MAINTAINER = "Debian"


def make_sbom(form: str, manifest: dict[str, Any], digest: str) -> bytes:
    """The package list of an image.

    :param form: SPDX or CYCLONEDX.
    :param digest: hex, the image's.
    """
    makers: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {SPDX: spdx, CYCLONEDX: cyclonedx}
    return (json.dumps(makers[form](manifest, digest), indent=1, ensure_ascii=False) + "\n").encode()


def purl(package: dict[str, Any], suite: str) -> str:
    """A package URL as the purl specification writes Debian's; `distro` makes scanners look in the right suite."""
    name, version = quote(package["name"], safe=".-_~"), quote(package["version"], safe=".-_~:")
    arch = quote(package["arch"], safe="")
    return f"pkg:deb/debian/{name}@{version}?arch={arch}&distro=debian-{quote(suite, safe='')}"


def spdx(manifest: dict[str, Any], digest: str) -> dict[str, Any]:
    """SPDX 2.3: the image, which contains every package."""
    image = "SPDXRef-Image"
    packages = [_spdx_package(package, manifest["suite"]) for package in manifest["packages"]]
    packages += [_spdx_download(one) for one in _downloads(manifest)]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{manifest['name']}-{manifest['arch']}-{digest[:12]}",
        "documentNamespace": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "creationInfo": {"created": _moment(manifest), "creators": [f"Tool: {TOOL}"]},
        "documentDescribes": [image],
        "packages": [
            {
                "SPDXID": image,
                "name": manifest["name"],
                "versionInfo": f"sha256:{digest}",
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": False,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "NOASSERTION",
                "copyrightText": "NOASSERTION",
                "primaryPackagePurpose": "OPERATING-SYSTEM",
                "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
            },
            *packages,
        ],
        "relationships": [
            {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": image},
            *(
                {"spdxElementId": image, "relationshipType": "CONTAINS", "relatedSpdxElement": package["SPDXID"]}
                for package in packages
            ),
        ],
    }


def cyclonedx(manifest: dict[str, Any], digest: str) -> dict[str, Any]:
    """CycloneDX 1.6: the image as the thing described, every package a component."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": _moment(manifest),
            "tools": {"components": [{"type": "application", "name": TOOL}]},
            "component": {
                "type": "operating-system",
                "bom-ref": f"sha256:{digest}",
                "name": manifest["name"],
                "version": f"sha256:{digest}",
                "hashes": [{"alg": "SHA-256", "content": digest}],
            },
        },
        "components": [
            {
                "type": "library",
                "bom-ref": purl(package, manifest["suite"]),
                "name": package["name"],
                "version": package["version"],
                "supplier": {"name": _MAINTAINER},
                "hashes": [{"alg": "SHA-256", "content": package["sha256"]}],
                "purl": purl(package, manifest["suite"]),
            }
            for package in manifest["packages"]
        ]
        + [_component(one) for one in _downloads(manifest)],
        "dependencies": [
            {
                "ref": f"sha256:{digest}",
                "dependsOn": [purl(p, manifest["suite"]) for p in manifest["packages"]]
                + [f"sha256:{one['sha256']}" for one in _downloads(manifest)],
            }
        ],
    }


def _spdx_package(package: dict[str, Any], suite: str) -> dict[str, Any]:
    # An SPDX identifier has letters, digits, dots and hyphens; `+` is common in Debian's names.
    ident = re.sub(r"[^A-Za-z0-9.-]", "-plus-", f"{package['name']}-{package['arch']}")
    return {
        "SPDXID": f"SPDXRef-Package-{ident}",
        "name": package["name"],
        "versionInfo": package["version"],
        "supplier": f"Organization: {_MAINTAINER}",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": package["sha256"]}],
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl(package, suite),
            }
        ],
    }


def _downloads(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """What a recipe added of other makers', each once."""
    return list({one["sha256"]: one for one in manifest.get("downloads", [])}.values())


def _spdx_download(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-Download-{one['sha256']}",
        "name": one["name"],
        "versionInfo": f"sha256:{one['sha256']}",
        "downloadLocation": one["url"] or "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": one["sha256"]}],
    }


def _component(one: dict[str, Any]) -> dict[str, Any]:
    found = {
        "type": "file",
        "bom-ref": f"sha256:{one['sha256']}",
        "name": one["name"],
        "version": f"sha256:{one['sha256']}",
        "hashes": [{"alg": "SHA-256", "content": one["sha256"]}],
    }
    if one["url"]:
        found["externalReferences"] = [{"type": "distribution", "url": one["url"]}]
    return found


def _moment(manifest: dict[str, Any]) -> str:
    return datetime.fromtimestamp(manifest["date"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
