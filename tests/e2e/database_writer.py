"""Adds rows to an SQLite database with a write-ahead log, while others do, each by itself. FILE NAME COUNT.

A row's number is one more than the last one's there: two that do not see each other's give the same.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing

file, name, count = sys.argv[1:]
with closing(sqlite3.connect(file, timeout=240, isolation_level=None)) as database:
    assert database.execute("pragma journal_mode").fetchone() == ("wal",)
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    assert sys.stdin.readline() == "\n", "whoever began it is gone"
    for _ in range(int(count)):
        database.execute("insert into t select ?, coalesce(max(number), 0) + 1 from t", (name,))
        time.sleep(0.02)  # the others' turn: who waits looks again each 0.1 s, and would seldom find a shorter one
sys.stdout.write("DONE\n")
sys.stdout.flush()
sys.stdin.read()
