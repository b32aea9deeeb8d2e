"""The main job, end to end: a task is killed half-way, goes on, and does nothing twice.

A shop's API runs on this machine. An order is checked, paid, and shipped with the real command
line, in a temporary folder. While the parcel is being ordered the process gets SIGKILL; another
process goes on. At the end the API's own counters say what it was asked for.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROGRAM = "sequential-ecosystem"
TASK = "fulfil-order"
CODE = """\
import asyncio


async def fulfil_order(api, orderId):
    order = (await fetch(f"{api}/orders/{orderId}")).raise_for_status().json()

    # Three calls at the same time.
    stock = await asyncio.gather(*[in_stock(api, item) for item in order["items"]])
    print("in stock:", ", ".join(item for item, there in zip(order["items"], stock) if there))

    # The bank is busy at first (503). The engine tries again, with the same Idempotency-Key.
    payment = await post(f"{api}/payments", {"order": orderId, "amount": order["total"]})
    print("paid:", payment["id"])

    await asyncio.sleep(1)  # durable: a month would do as well

    try:
        parcel = await post(f"{api}/parcels", {"order": orderId})
        label = await fetch(f"{api}/parcels/{parcel['id']}/label")
    except OSError:
        await post(f"{api}/refunds", {"payment": payment["id"]})
        raise
    await post(f"{api}/mails", {"to": order["customer"], "text": f"On its way: {parcel['id']}"})
    return {"order": orderId, "parcel": parcel["id"], "label": len(label.bytes())}


async def in_stock(api, item):
    return (await fetch(f"{api}/stock/{item}")).json()["count"] > 0


async def post(url, body):
    return (await fetch(url, method="POST", json=body)).raise_for_status().json()
"""
EXPECTED = {"order": "7", "parcel": "parcel-1", "label": 512}
# What the API has to be asked for in all, and why anything comes twice.
REQUESTS = {
    "GET /orders/7": 1,
    "GET /stock/kettle": 1,
    "GET /stock/teapot": 1,
    "GET /stock/cups": 1,
    "POST /payments": 2,  # the first one met a 503
    "POST /parcels": 2,  # the first one was in progress when the process was killed
    "GET /parcels/parcel-1/label": 1,
    "POST /mails": 1,
}


class Shop(ThreadingHTTPServer):
    """The API. It counts requests, and honours `Idempotency-Key`: the same key is the same deed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: Counter[str] = Counter()
        self.keys: dict[str, set[str]] = {}
        self.done: dict[str, dict[str, Any]] = {}
        self.parcel_ordered = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Shop

    def do_GET(self) -> None:
        self.note()
        time.sleep(0.1)
        match self.path.strip("/").split("/"):
            case ["orders", _]:
                items = ["kettle", "teapot", "cups"]
                self.reply({"items": items, "total": 99, "customer": "ada@example.com"})
            case ["stock", _]:
                self.reply({"count": 3})
            case _:
                self.reply("PDF" * 170)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Idempotency-Key"]
        request = self.note()
        self.server.keys.setdefault(request, set()).add(key)
        noun = self.path.strip("/").removesuffix("s")
        number = sum(name.startswith(noun) for name in (d["id"] for d in self.server.done.values()))
        if noun == "payment" and self.server.requests[request] == 1:
            self.reply({"error": "busy"}, 503)
            return
        deed = self.server.done.setdefault(key, {"id": f"{noun}-{number + 1}"})
        if noun == "parcel" and self.server.requests[request] == 1:
            self.server.parcel_ordered.set()
            time.sleep(1)  # time enough to be killed
        time.sleep(0.1)
        self.reply(deed, 201)

    def note(self) -> str:
        request = f"{self.command} {self.path}"
        self.server.requests[request] += 1
        return request

    def reply(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # whoever asked was killed

    def log_message(self, format: str, *args: object) -> None:
        """The demonstration tells what happens."""


class Demo:
    """Runs commands as a user would, shows them, and keeps what was not as promised."""

    def __init__(self, project: Path, shop: Shop) -> None:
        self.project = project
        self.shop = shop
        self.failed: list[str] = []
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SEQUENTIAL_", "TASK_"))
        }

    def say(self, text: str) -> None:
        print("\n" + self._styled(textwrap.fill(text, 88), "1"), flush=True)

    def run(self, *arguments: str, code: int = 0, quiet: bool = False) -> str:
        """Run a command to its end; returns what it printed."""
        process = self.start(*arguments, quiet=quiet)
        output, _ = process.communicate(timeout=60)
        if not quiet:
            self.show(output)
        if process.returncode != code:
            self.check(False, f"{arguments[0]} exits with {code}, not {process.returncode}")
        return output

    def start(self, *arguments: str, quiet: bool = False) -> "subprocess.Popen[str]":
        if not quiet:
            shown = " ".join(f"'{a}'" if set(a) & set(' {"') else a for a in arguments)
            print(self._styled(f"$ {PROGRAM} {shown}", "36"), flush=True)
        return subprocess.Popen(
            [_command(), *arguments],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if quiet else subprocess.STDOUT,
            text=True,
        )

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.failed.append(what)
        mark = self._styled("ok  ", "32") if holds else self._styled("NOT ", "1;31")
        print(f"  {mark} {what}", flush=True)

    def show(self, output: str) -> None:
        print(textwrap.indent(output.rstrip("\n"), "  ", lambda _: True), flush=True)

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colours else text


def main() -> int:
    started = time.monotonic()
    shop = Shop()
    thread = threading.Thread(target=shop.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    folder = Path(tempfile.mkdtemp(prefix="sequential-demo-"))
    try:
        demo = Demo(folder, shop)
        tell(demo)
    finally:
        shop.shutdown()
        shop.server_close()
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - started
    if demo.failed:
        print(f"\n{len(demo.failed)} of the promises did not hold.")
        return 1
    print(f"\nEverything was as promised, in {seconds:.1f} s.")
    return 0


def tell(demo: Demo) -> None:
    prepare(demo)
    run_id = run_and_kill(demo)
    resume(demo, run_id)
    prove(demo, run_id)


def prepare(demo: Demo) -> None:
    demo.say("A project is a folder. A task is a folder in it, with a program in plain Python.")
    demo.run("init")
    fields = ("--inputs", "api,orderId", "--description", "Check, pay and ship an order")
    demo.run("create-task", TASK, *fields)
    (demo.project / "tasks" / TASK / "code.py").write_text(CODE)
    demo.say(f"This goes into tasks/{TASK}/code.py:")
    print(textwrap.indent(CODE.rstrip(), "  "))
    demo.run("config", "set", "defaults.api", demo.shop.url, quiet=True)
    demo.say("A dry run finds what the sandbox would not understand, and runs nothing.")
    demo.run("run", TASK, "--dry-run")
    demo.check(demo.shop.requests.total() == 0, "the API was not asked for anything")


def run_and_kill(demo: Demo) -> str:
    demo.say("Now it runs, and gets SIGKILL while the API is busy with POST /parcels.")
    process = demo.start("run", TASK, "--verbose", "--input", '{"orderId": "7"}')
    ordered = demo.shop.parcel_ordered.wait(30)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    demo.show(output + "Killed")
    demo.check(ordered, "the run came as far as the parcel")
    demo.check(process.returncode == -signal.SIGKILL, "the process is dead")
    demo.say("Nothing runs any more. The run is in the folder, and whoever looks is told.")
    listed = demo.run("list")
    history = json.loads(demo.run("history", TASK, "--json", quiet=True))
    run_id = str(history[0]["id"])
    demo.check("Unfinished" in listed and run_id in listed, "`list` mentions the unfinished run")
    return run_id


def resume(demo: Demo, run_id: str) -> None:
    demo.say("Another process goes on, at the very expression, with all variables.")
    output = demo.run("resume", run_id[:13], "--verbose")
    demo.check("parcel-1" in output, "the run has its result")
    demo.say("The journal: every call with its line, attempts, time, size and answer.")
    demo.run("show", TASK, run_id[:13])


def prove(demo: Demo, run_id: str) -> None:
    demo.say("What the API was asked for, in all:")
    shop = demo.shop
    for request, times in shop.requests.items():
        why = {
            "POST /payments": "the first met a 503",
            "POST /parcels": "the first was in progress at the kill",
        }.get(request, "")
        print(f"  {times}  {request:30}{why}".rstrip())
    print()
    run = json.loads(demo.run("show", TASK, run_id, "--json", quiet=True))
    calls = run["stack_runs"]
    demo.check(run["status"] == "completed" and run["result"] == EXPECTED, "the result is right")
    demo.check(shop.requests == REQUESTS, "no call that was answered was made again")
    demo.check(
        all(len(keys) == 1 for keys in shop.keys.values()),
        "what was sent twice had the same Idempotency-Key",
    )
    made = sorted(deed["id"] for deed in shop.done.values())
    demo.check(made == ["mail-1", "parcel-1", "payment-1"], "one payment, one parcel, one mail")
    demo.check(
        len(calls) == 9 and all(call["status"] == "completed" for call in calls),
        "the journal has nine calls, each completed once",
    )


def _command() -> str:
    """The command of this very environment."""
    beside = Path(sys.executable).with_name(PROGRAM)
    return str(beside) if beside.exists() else PROGRAM


if __name__ == "__main__":
    sys.exit(main())
