"""Orders over HTTP: POST /orders takes one, GET /orders lists them, GET /health asks database and queue."""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis

TABLE = "CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, what text, state text DEFAULT 'new', worker text)"


def query(words: str, *values: object) -> list[tuple]:
    """One statement in a transaction of its own; its rows."""
    connection = psycopg2.connect(os.environ["DATABASE"])
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(words, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """The orders, or whether all is well."""
        if self.path == "/health":
            query("SELECT 1")
            QUEUE.ping()
            self._answer(200, "ok")
        else:
            rows = query("SELECT id, what, state, worker FROM orders ORDER BY id")
            self._answer(200, [dict(zip(("id", "what", "state", "worker"), row, strict=True)) for row in rows])

    def do_POST(self) -> None:
        """Keep the body as an order and tell the workers."""
        what = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode(errors="replace")
        ((number,),) = query("INSERT INTO orders (what) VALUES (%s) RETURNING id", what)
        QUEUE.lpush("orders", number)
        self._answer(201, {"id": number})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    QUEUE = redis.Redis(os.environ["QUEUE"])
    query(TABLE)
    print(f"release {os.environ['RELEASE']} takes orders on port 8000", flush=True)
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
