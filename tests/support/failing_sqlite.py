"""SQLite connections that fail, once, at a statement of one's choice."""

import sqlite3
import threading
from typing import Any

WRITERS = ("sequential-sqlite", "MainThread")  # what the threads of readers execute is not counted


class Failing(sqlite3.Connection):
    """A connection whose `fails_at`-th statement, from now on, is not executed but fails."""

    fails_at = 0

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        if threading.current_thread().name in WRITERS and Failing.fails_at:
            Failing.fails_at -= 1
            if not Failing.fails_at:
                raise sqlite3.OperationalError("disk I/O error")
        return super().execute(*arguments)


real = sqlite3.connect


def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    return real(*arguments, factory=Failing, **options)
