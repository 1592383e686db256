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
options = {"type": "none", "o": "bind", "device": sys.argv[3]}
folder = client.volumes.create(sys.argv[2], driver="local", driver_opts=options)
facts["device"] = client.api.inspect_volume(sys.argv[2])["Options"]["device"]
folder.remove()
facts["told"] = {}
for here in sys.argv[3:]:
    try:
        client.api.create_container("no-such-image", host_config=client.api.create_host_config(binds=[rf"{here}:/w"]))
    except docker.errors.APIError as error:
        facts["told"][here] = [error.status_code, error.explanation]
facts["pings"] = [client.ping() for _ in range(20)]
print(json.dumps(facts))
