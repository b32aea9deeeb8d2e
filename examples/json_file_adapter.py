"""A storage adapter of one's own: everything in one JSON file, for one process and a few runs.

`KeyValueAdapter` asks for three methods and makes all the rest of them. The file is written anew
for each step, and is put in place in one go, so a crash leaves all of a step or nothing.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from sequential import KeyValueAdapter


class JsonFileAdapter(KeyValueAdapter):
    """Tasks and runs in the JSON file `path`, made when something is written."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)
        self._content: dict[str, str] = {}

    async def init(self) -> None:
        if self._path.exists():
            self._content = json.loads(self._path.read_text("utf-8"))

    async def read(self, key: str) -> bytes | None:
        text = self._content.get(key)
        return None if text is None else text.encode()

    async def scan(self, prefix: str) -> Mapping[str, bytes]:
        return {k: v.encode() for k, v in self._content.items() if k.startswith(prefix)}

    async def write(self, changes: Mapping[str, bytes | None]) -> None:
        content = self._content | {k: v.decode() for k, v in changes.items() if v is not None}
        for key in [key for key, value in changes.items() if value is None]:
            content.pop(key, None)
        new = self._path.with_name(self._path.name + ".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._content = content
