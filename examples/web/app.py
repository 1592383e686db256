"""A guest book: GET / shows it, POST / adds a line, GET /health tells that it lives."""

from __future__ import annotations

import os
import platform
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BOOK = Path(os.environ.get("BOOK", "/data/book.txt"))
GREETING = os.environ.get("GREETING", "Hello")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """Show the book."""
        if self.path == "/health":
            self._answer(200, "ok\n")
            return
        lines = BOOK.read_text(encoding="utf-8") if BOOK.exists() else ""
        self._answer(200, f"{GREETING} from {platform.node()}, Linux {platform.release()}\n{lines}")

    def do_POST(self) -> None:
        """Add the body as a line."""
        text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode(errors="replace")
        BOOK.parent.mkdir(parents=True, exist_ok=True)
        with BOOK.open("a", encoding="utf-8") as book:
            book.write(text.strip() + "\n")
        self._answer(201, "noted\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    print("guest book on port 8000", flush=True)
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
