"""What the SDKs of OpenAI, Google, Stripe and Supabase talk to, on this machine.

/v1/chat/completions       OpenAI: says the last message again, in words for `stream`
/v1/responses, /v1/embeddings, /v1/files   OpenAI
/bucket/<name>             S3, for an object that was put there
/v1/customers              Stripe
/token, /users             Google: an access token for a signed assertion; two pages of users
/rest/<table>              Supabase: rows that were posted

The header `X-Fail: <status> <times>` has that many requests to a path fail before one is answered.
"""

import base64
import json
import struct
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import parse_qs

from support.http_api import Handler, HttpApi, serve

USERS = [f"user{n}@example.com" for n in range(4)]


def serve_sdks() -> AbstractContextManager[HttpApi]:
    """Serve until the block is left."""
    return serve(SdkHandler)


class SdkHandler(Handler):
    """The routes of these APIs."""

    def answer(self) -> None:
        status, _, times = self.headers.get("X-Fail", "").partition(" ")
        path = self.path.partition("?")[0]
        if status and self.server.api.count(path) < int(times):
            self.query = {"retry_after": "2"}
            self.body = self._read_body()
            self._record(path, "")
            self.reply_json({"error": {"message": "later", "code": int(status)}}, int(status))
            return
        super().answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def route_v1(self, *path: str) -> None:
        getattr(self, f"openai_{'_'.join(path)}")()

    def openai_chat_completions(self) -> None:
        asked = json.loads(self.body)
        text = f"You said: {asked['messages'][-1]['content']}"
        whole = {"id": "chat-1", "model": asked["model"], "created": int(time.time())}
        if asked.get("stream"):
            self.reply(200, b"".join(_events(whole, text)), "text/event-stream")
            return
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        self.reply_json({**whole, "object": "chat.completion", "choices": [choice]})

    def openai_responses(self) -> None:
        asked = json.loads(self.body)
        content = {"type": "output_text", "text": f"Read: {asked['input']}", "annotations": []}
        message = {"type": "message", "id": "m", "role": "assistant", "content": [content]}
        answer = {"id": "r", "object": "response", "model": asked["model"], "output": [message]}
        self.reply_json(answer)

    def openai_embeddings(self) -> None:
        asked = json.loads(self.body)
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        data = [
            {"object": "embedding", "index": n, "embedding": [len(text), 0.5]}
            for n, text in enumerate(texts)
        ]
        if asked.get("encoding_format") == "base64":
            for item in data:
                packed = struct.pack("<2f", *item["embedding"])  # type: ignore[misc]
                item["embedding"] = base64.b64encode(packed).decode()
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
        self.reply_json(answer)

    def openai_files(self) -> None:
        assert self.headers["Content-Type"].startswith("multipart/form-data")
        size = len(self.body)
        self.reply_json(
            {
                "id": "file-1",
                "object": "file",
                "bytes": size,
                "created_at": 1,
                "filename": "a.txt",
                "purpose": "assistants",
                "status": "processed",
            }
        )

    def openai_customers(self) -> None:
        form = parse_qs(self.body.decode())
        self.reply_json({"id": "cus_1", "object": "customer", "email": form["email"][0]})

    def route_token(self) -> None:
        form = parse_qs(self.body.decode())
        claims = form["assertion"][0].split(".")[1]
        issued = json.loads(base64.urlsafe_b64decode(claims + "=="))["iat"]
        self.reply_json({"access_token": f"t{issued}", "expires_in": 3600, "token_type": "Bearer"})

    def route_users(self) -> None:
        start = int(self.query.get("pageToken", 0))
        page: dict[str, Any] = {
            "users": [{"primaryEmail": one} for one in USERS[start : start + 2]]
        }
        if start + 2 < len(USERS):
            page["nextPageToken"] = str(start + 2)
        self.reply_json(page)

    def route_bucket(self, name: str) -> None:
        if self.command == "PUT":
            self.reply(200)
        else:
            put = [one for one in self.server.api.requests if one.method == "PUT"]
            self.reply(200, put[-1].body, "application/octet-stream")

    def route_rest(self, *path: str) -> None:
        rows = json.loads(self.body) if self.body else [{"id": 1, "table": path[-1]}]
        self.reply_json(rows, 201 if self.command == "POST" else 200)


def _events(whole: dict[str, Any], text: str) -> Iterator[bytes]:
    for word in text.split():
        choice = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
        event = {**whole, "object": "chat.completion.chunk", "choices": [choice]}
        yield f"data: {json.dumps(event)}\n\n".encode()
    yield b"data: [DONE]\n\n"
