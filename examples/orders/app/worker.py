"""Takes orders from the queue and marks them as done."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psycopg2
import redis

ALIVE = Path("/tmp/alive")
WAIT = 5  # seconds


def main() -> None:
    """Until a signal; an order that was begun is finished."""
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    queue = redis.Redis(os.environ["QUEUE"])
    database = psycopg2.connect(os.environ["DATABASE"])
    name = socket.gethostname()
    print(f"release {os.environ['RELEASE']}, {name}: waiting for orders", flush=True)
    while not ended:
        ALIVE.touch()
        found = queue.brpop("orders", timeout=WAIT)
        if found is None:
            continue
        number = int(found[1])
        with database, database.cursor() as cursor:
            cursor.execute("UPDATE orders SET state = 'done', worker = %s WHERE id = %s", (name, number))
        print(f"order {number} done by {name}", flush=True)
    print(f"{name}: ended in order", flush=True)


if __name__ == "__main__":
    main()
