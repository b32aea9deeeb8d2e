"""AWS Lambda on this machine: its Runtime API, in front of the real `awslambdaric`.

`Lambda` runs one instance of a function as the service does: events one after the other, frozen
(`freeze`) or killed at any moment, and started again with the next event. `url` is its public
address: what is posted there becomes an event, and is answered with what the function answers.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ARN = "arn:aws:lambda:eu-west-1:000000000000:function:f"
DIED = ("died", None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *arguments: Any) -> None:
        pass  # somebody who was killed, or does not wait for the answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    function: "Lambda"

    def log_message(self, *arguments: Any) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def reply(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class _RuntimeApi(_Handler):
    def do_GET(self) -> None:  # .../invocation/next: waits for an event
        taken = self.function.events.get()
        if taken is None:
            self.close_connection = True
            return
        number, event, milliseconds = taken
        self.reply(
            200,
            json.dumps(event).encode(),
            Content_Type="application/json",
            Lambda_Runtime_Aws_Request_Id=number,
            Lambda_Runtime_Deadline_Ms=int(time.time() * 1000) + milliseconds,
            Lambda_Runtime_Invoked_Function_Arn=ARN,
        )

    def do_POST(self) -> None:  # .../invocation/<number>/response | error, .../init/error
        body = self.body()
        *_, kind, number, what = self.path.split("/")
        if kind == "invocation":
            self.function.answers[number].put((what, json.loads(body or b"null")))
        else:
            print("the function does not load:", body[:2000], file=sys.stderr)
        self.reply(202)


class _FunctionUrl(_Handler):
    def do_POST(self) -> None:
        body = self.body().decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        what, answer = self.function.invoke(url_event("POST", self.path, body, headers))
        if what != "response":
            self.reply(502)
            return
        self.reply(answer["statusCode"], answer["body"].encode(), **answer["headers"])

    do_GET = do_POST


class Lambda:
    """One instance of the function `handler`, `<module>.<name>` in `folder`."""

    def __init__(self, handler: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers: dict[str, queue.Queue[Any]] = {}
        self._command = [sys.executable, "-m", "awslambdaric", handler]
        self._folder = folder
        self._runtime_api = self._serve(_RuntimeApi)
        self._function_url = self._serve(_FunctionUrl)
        self.url = f"http://127.0.0.1:{self._function_url.server_port}"
        self._environment = os.environ | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._runtime_api.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_REGION": "eu-west-1",
            "LAMBDA_TASK_ROOT": str(folder),
            "_HANDLER": handler,
            "SEQUENTIAL_PUBLIC_URL": self.url,
            **environment,
        }
        self.process = self._start()

    def invoke(self, event: Any, milliseconds: int = 30_000) -> tuple[str, Any]:
        """`("response", answer)`, `("error", ...)`, or `DIED` when the process ended over it."""
        number = str(uuid.uuid4())
        answer: queue.Queue[Any] = queue.Queue()
        self.answers[number] = answer
        self.events.put((number, event, milliseconds))
        end = time.monotonic() + milliseconds / 1000
        while time.monotonic() < end:
            try:
                return answer.get(timeout=0.05)  # type: ignore[no-any-return]
            except queue.Empty:
                if self.process.poll() is not None:
                    return DIED
        raise TimeoutError(f"no answer to {event}")

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a request by the function's URL."""
        content = "" if body is None else json.dumps(body)
        what, answer = self.invoke(url_event(method, path, content, headers))
        assert what == "response", answer
        return answer["statusCode"], json.loads(answer["body"])

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.kill()
        self.events.put(None)
        for server in (self._runtime_api, self._function_url):
            server.shutdown()
            server.server_close()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._command, cwd=self._folder, env=self._environment)

    def _serve(self, kind: type[_Handler]) -> _Server:
        server = _Server(("127.0.0.1", 0), type(kind.__name__, (kind,), {"function": self}))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server


@contextmanager
def running(handler: str, folder: Path, **environment: str) -> Iterator[Lambda]:
    function = Lambda(handler, folder, environment)
    try:
        yield function
    finally:
        function.stop()


def url_event(
    method: str, path: str, body: str = "", headers: Mapping[str, str] = {}
) -> dict[str, Any]:
    """What a function URL or an HTTP API sends (payload 2.0)."""
    raw, _, query = path.partition("?")
    http = {"method": method, "path": raw, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw,
        "rawQueryString": query,
        "headers": {"host": "f.lambda-url.example", **headers},
        "requestContext": {
            "http": http,
            "stage": "$default",
            "requestId": "1",
            "domainName": "f.lambda-url.example",
        },
        "body": body,
        "isBase64Encoded": False,
    }
