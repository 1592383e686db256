"""Run by CPython for Windows: the docker SDK (which opens pipes by pywin32) against the engine. Prints JSON."""

from __future__ import annotations

import json
import sys

import docker

client = docker.DockerClient(base_url=sys.argv[1], timeout=120, version="auto")
facts = {"os": client.info()["OSType"], "containers": len(client.containers.list(all=True))}
volume = client.volumes.create(sys.argv[2])
facts["volumes"] = [found.name for found in client.volumes.list()]
volume.remove()
facts["pings"] = [client.ping() for _ in range(20)]
print(json.dumps(facts))
