"""Google's APIs on this machine: it gives tokens for signed assertions and wants them back.

What it knows: users and domains of the directory, mailboxes, a sheet, files of Drive. Asked for
the file "missing" it repeats what it was sent.
`Google.later` holds answers that are given once each before anything else, `Google.token_later`
the same for the server of tokens.
"""

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from support.http_api import Handler, HttpApi, serve
from support.sdk_key import PRIVATE_KEY

USERS = [{"primaryEmail": f"user{n}@example.com"} for n in range(5)]
Later = tuple[int, Any, dict[str, str]]


@dataclass
class Google:
    """The running server, and what it was asked for tokens."""

    api: HttpApi
    claims: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    token_lasts: int = 3600  # seconds
    later: list[Later] = field(default_factory=list)
    token_later: list[Later] = field(default_factory=list)
    deaf_for: float = 0.0  # seconds before an answer about tokens
    place: str | None = None  # where large uploads are sent to, if not here
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The JSON of a service account's key."""
        return json.dumps(
            {
                "type": "service_account",
                "client_email": "robot@project.iam.gserviceaccount.com",
                "private_key": PRIVATE_KEY,
                "token_uri": f"{self.api.url}/token",
            }
        )

    @property
    def asked(self) -> list[str]:
        """Method, path and query of the requests, without those for tokens."""
        return [
            f"{one.method} {one.path}{'?' if one.query else ''}{one.query}"
            for one in self.api.requests
            if one.path != "/token"
        ]


@contextlib.contextmanager
def google() -> Iterator[Google]:
    """Serve until the block is left."""

    class GoogleHandler(_GoogleHandler):
        pass

    with serve(GoogleHandler) as api:
        GoogleHandler.state = state = Google(api)
        yield state


class _GoogleHandler(Handler):
    state: Google

    def answer(self) -> None:
        is_token = self.path == "/token"
        self.server.closing.wait(self.state.deaf_for if is_token else 0)
        later = self.state.token_later if is_token else self.state.later
        if later or not (is_token or self._is_known()):
            self.query = {}
            self.body = self._read_body()
            self._record(*self.path.partition("?")[::2])
            unknown: Later = 401, refusal(401, "authError", "Invalid Credentials"), {}
            status, body, headers = later.pop(0) if later else unknown
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.reply(status, text, headers.pop("kind", "application/json"), **headers)
            return
        super().answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def _is_known(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.state.tokens

    def route_token(self) -> None:
        form = {name: values[0] for name, values in parse_qs(self.body.decode()).items()}
        if form["grant_type"] == "refresh_token":
            claims: dict[str, Any] = form
        else:
            claims = json.loads(base64.urlsafe_b64decode(form["assertion"].split(".")[1] + "=="))
        self.state.claims.append(claims)
        if claims.get("sub", "").startswith("nobody"):
            body = {"error": "invalid_grant", "error_description": "Invalid email or User ID"}
            self.reply_json(body, 400)
            return
        token = f"ya29.token-{len(self.state.claims)}-{time.time_ns()}"
        self.state.tokens.add(token)
        lasts = self.state.token_lasts
        self.reply_json({"access_token": token, "expires_in": lasts, "token_type": "Bearer"})

    def route_admin(self, *path: str) -> None:
        if path[-1] == "domains":
            self.reply_json({"kind": "d", "domains": [{"domainName": "example.com"}]})
            return
        start, count = int(self.query.get("pageToken", 0)), int(self.query.get("maxResults", 100))
        page: dict[str, Any] = {"kind": "u", "users": USERS[start : start + count]}
        if start + count < len(USERS):
            page["nextPageToken"] = str(start + count)
        self.reply_json(page)

    def route_gmail(self, *path: str) -> None:
        if path[-1] == "messages":
            self.reply_json({"resultSizeEstimate": 0} if "q" in self.query else {"messages": ["m"]})
        elif path[-1] == "send":
            self.reply_json({"id": "sent", **json.loads(self.body)})
        elif self.command == "DELETE":
            self.reply(204)
        else:
            self.reply_json({"id": path[-1], "snippet": "Hello", "format": self.query["format"]})

    def route_v4(self, *path: str) -> None:
        self.reply_json({"range": path[-1], "values": [["1", "2"]]})

    def route_drive(self, *path: str) -> None:
        name = path[-1]
        if name == "missing":
            told = f"no file for {self.headers['Authorization']}"
            self.reply_json(refusal(404, "notFound", told), 404)
        elif self.query.get("alt") == "media":
            self.reply(200, self.state.files[name], "application/octet-stream")
        else:
            self.reply_json({"files": [{"id": name} for name in self.state.files]})

    def route_upload(self, *path: str) -> None:
        if self.query["uploadType"] == "resumable":
            here = f"{self.state.api.url}/uploading/{json.loads(self.body)['name']}"
            place = self.state.place or here
            self.reply(200, b"", Location=place)
            return
        boundary = self.headers["Content-Type"].partition('boundary="')[2].rstrip('"').encode()
        _, described, content, _ = self.body.split(b"--" + boundary)
        name = json.loads(described.partition(b"\n\n")[2])["name"]
        self.state.files[name] = content.partition(b"\n\n")[2].removesuffix(b"\n")
        self.reply_json({"id": name})

    def route_uploading(self, name: str) -> None:
        self.state.files[name] = self.body
        self.reply_json({"id": name, "kind": self.headers["Content-Type"]})

    def route_slow(self, seconds: str, *path: str) -> None:
        self.server.closing.wait(float(seconds))
        self.reply_json({})

    def route_bigquery(self, *path: str) -> None:
        # A long request comes as a form.
        form = {name: values[0] for name, values in parse_qs(self.body.decode()).items()}
        self.reply_json({"override": self.headers["X-HTTP-Method-Override"], "form": form})


def refusal(status: int, reason: str, message: str) -> dict[str, Any]:
    errors = [{"domain": "global", "reason": reason, "message": message}]
    return {"error": {"code": status, "message": message, "errors": errors}}
