"""OpenAI's API on this machine: that of `support.sdk_api`, and what the service asks besides.

For a model named "refused" no key is good enough, and the answer repeats it.

`OpenAI.later` holds answers that are given once each before anything else, `OpenAI.broken` is how
many events a stream has before it ends in the middle.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from support.http_api import HttpApi, serve
from support.sdk_api import SdkHandler

KEY = "sk-test-0123456789abcdef"


@dataclass
class OpenAI:
    """The running server."""

    api: HttpApi
    later: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    broken: int | None = None
    deaf_for: float = 0.0  # seconds before each answer

    @property
    def url(self) -> str:
        return f"{self.api.url}/v1"


@contextlib.contextmanager
def openai_api() -> Iterator[OpenAI]:
    """Serve until the block is left."""

    class OpenAIHandler(_OpenAIHandler):
        pass

    with serve(OpenAIHandler) as api:
        OpenAIHandler.state = state = OpenAI(api)
        yield state


class _OpenAIHandler(SdkHandler):
    state: OpenAI

    def answer(self) -> None:
        self.server.closing.wait(self.state.deaf_for)
        known = self.headers.get("Authorization") == f"Bearer {KEY}"
        known = known and not self.path.endswith("/refused")
        if known and not self.state.later:
            super().answer()
            return
        self.query = {}
        self.body = self._read_body()
        self._record(*self.path.partition("?")[::2])
        told = {"message": f"Incorrect API key: {self.headers['Authorization']}", "code": "wrong"}
        unknown: tuple[int, Any, dict[str, str]] = 401, {"error": told}, {}
        status, body, headers = self.state.later.pop(0) if self.state.later else unknown
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.reply(status, text, headers.pop("kind", "application/json"), **headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def openai_chat_completions(self) -> None:
        asked = json.loads(self.body)
        if not asked.get("stream"):
            super().openai_chat_completions()
            return
        events = list(_chunks(asked))[: self.state.broken]
        self.reply(200, "".join(events).encode(), "text/event-stream")

    def openai_responses(self) -> None:
        asked = json.loads(self.body)
        if not asked.get("stream"):
            super().openai_responses()
            return
        whole = {"id": "r", "object": "response", "model": asked["model"], "output": []}
        events = [
            {"type": "response.created", "response": {**whole, "status": "in_progress"}},
            {"type": "response.completed", "response": {**whole, "status": "completed"}},
        ]
        lines = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events]
        self.reply(200, "".join(lines[: self.state.broken]).encode(), "text/event-stream")

    def openai_images_generations(self) -> None:
        self.reply_json({"created": 1, "data": [{"b64_json": "aGk="}]})

    def openai_models(self, name: str = "") -> None:
        model = {"id": name or "m1", "object": "model"}
        self.reply_json(model if name else {"object": "list", "data": [model]})

    def openai_files(self, name: str = "", content: str = "") -> None:
        if content:
            self.reply(200, b"\x00content", "application/octet-stream")
        elif self.command == "POST":
            super().openai_files()
        elif self.command == "DELETE":
            self.reply_json({"id": name, "object": "file", "deleted": True})
        elif name:
            self.reply_json({"id": name, "object": "file", "bytes": 3})
        else:
            page = {"object": "list", "data": [{"id": "file-1"}], "has_more": True}
            self.reply_json(page)

    def route_v1(self, *path: str) -> None:
        if path[0] in ("models", "files"):
            getattr(self, f"openai_{path[0]}")(*path[1:])
        else:
            super().route_v1(*path)


def _chunks(asked: dict[str, Any]) -> Iterator[str]:
    """Words, a call of a tool in two pieces, the end, and what was used."""
    whole = {"id": "chat-1", "model": asked["model"], "object": "chat.completion.chunk"}
    tool = {"index": 0, "id": "t1", "type": "function"}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": "You "},
        {"content": "said"},
        {"tool_calls": [{**tool, "function": {"name": "find", "arguments": '{"id"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
    ]
    choices: list[list[dict[str, Any]]] = [
        *([{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas),
        [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}],
        [],
    ]
    for choice in choices:
        event = {**whole, "created": int(time.time()), "choices": choice}
        if not choice and asked["stream_options"] == {"include_usage": True}:
            event["usage"] = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        yield f"data: {json.dumps(event)}\n\n"
    yield "data: [DONE]\n\n"
