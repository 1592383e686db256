"""An agent without an engine's services, for a guest played by a plain sshd: `python agent_process.py RUN_DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from cli.agent_main import forward_listens
from hostvm.agent.config import load
from hostvm.agent.parts import Parts
from hostvm.agent.relay import Passage, PassOn
from hostvm.agent.run import run_agent

if __name__ == "__main__":
    config = load(Path(sys.argv[1]))
    is_running = forward_listens(config.ssh_port)
    sent = Path(config.run_dir) / "sent"  # what a client of docker.sock sent last

    class Keep(PassOn):
        def __call__(self, data: bytes, /) -> Passage:
            if data:
                sent.write_bytes(data)
            return super().__call__(data)

    sys.exit(run_agent(config, Parts(examine=Keep), is_running, capture=True, lock_seconds=0.3))
