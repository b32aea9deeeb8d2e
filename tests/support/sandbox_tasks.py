"""Tasks as people write them, all of which run in the sandbox: the linter must not object."""

# What the tasks are started with; each takes what it names.
GIVEN = {
    "url": "https://api.example.com",
    "limit": 3,
    "names": ["Ada", "Bo", "Cy"],
    "text": "The quick brown fox; the lazy dog. Mail ada@example.com or bo@example.org!",
    "rows": [
        {"sku": "a", "qty": 2, "price": 1.5, "day": "2026-03-01"},
        {"sku": "b", "qty": 1, "price": 20.0, "day": "2026-03-02"},
        {"sku": "a", "qty": 5, "price": 1.5, "day": "2026-03-09"},
    ],
}

_SOURCES = '''
# one-request
async def main(url):
    response = await fetch(url)
    response.raise_for_status()
    return response.json()["items"]
# post-json
import json

async def main(url):
    response = await fetch(
        f"{url}/orders", method="POST", json={"sku": "a"}, headers={"X-Trace": "1"}, timeout=10
    )
    if not response.ok:
        raise RuntimeError(f"refused with {response.status}: {response.text[:80]}")
    return {"id": response.json()["id"], "sent": json.dumps({"sku": "a"}, sort_keys=True)}
# pages
async def main(url, limit):
    items, page = [], 1
    while page <= limit:
        response = await fetch(url, params={"page": page})
        body = response.json()
        items.extend(body["items"])
        if not body.get("next"):
            break
        page += 1
    return [item["name"] for item in items]
# parallel
import asyncio

async def price(url, name):
    response = await fetch(f"{url}/{name}")
    return name, response.json()["items"][0]["price"]

async def main(url, names):
    found = await asyncio.gather(*[price(url, name) for name in names])
    return dict(found)
# parallel-names
async def main(url):
    first, second = await gather(fetch(url), fetch(f"{url}/2"))
    return [first.status, second.status]
# settle-all
async def main(url, names):
    results = await settle(*[fetch(f"{url}/{name}") for name in [*names, "down"]])
    good = [r["value"].status for r in results if r["ok"]]
    bad = [r["message"] for r in results if not r["ok"]]
    return {"good": good, "bad": bad}
# batches
async def main(url, names):
    size, out = 2, []
    for start in range(0, len(names), size):
        batch = names[start : start + size]
        out += await gather(*(fetch(f"{url}/{name}") for name in batch))
    return len(out)
# retry-by-hand
import asyncio

async def main(url):
    delay = 0.5
    for attempt in range(4):
        try:
            response = await fetch(url + "/down")
            return response.json()
        except OSError as error:
            print("attempt", attempt, "failed:", error)
            await asyncio.sleep(delay)
            delay *= 2
    return "gave up"
# retry-decorator
def retried(times):
    def decorate(function):
        async def wrapper(*args, **kwargs):
            last = None
            for _ in range(times):
                try:
                    return await function(*args, **kwargs)
                except (OSError, TimeoutError) as error:
                    last = error
            raise RuntimeError(f"still failing: {last}")
        return wrapper
    return decorate

@retried(3)
async def load(url):
    return (await fetch(url)).json()

async def main(url):
    return (await load(url))["total"]
# not-found
async def main(url):
    response = await fetch(f"{url}/missing")
    if response.status == 404:
        return None
    return response.json()
# status-match
async def main(url):
    response = await fetch(f"{url}/missing")
    match response.status:
        case 200 | 201:
            return "fine"
        case 404:
            return "gone"
        case status if status >= 500:
            return "broken"
        case _:
            return "odd"
# raise-for-status
async def main(url):
    try:
        (await fetch(f"{url}/missing")).raise_for_status()
    except OSError as error:
        return str(error)
# headers
async def main(url):
    response = await fetch(url)
    left = int(response.headers.get("x-left", "0"))
    kind = response.headers["content-type"]
    names = sorted(name.lower() for name in response.headers.keys())
    return [left, kind, names, "x-left" in response.headers, response.url]
# bytes-body
import base64
import hashlib

async def main(url):
    content = (await fetch(url)).bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"sha256": digest, "base64": base64.b64encode(content).decode(), "size": len(content)}
# services
async def main():
    found = await services.mail.list(userId="me", max=10)
    subjects = [message["subject"] for message in found["messages"]]
    await services.mail.send(to="ada@example.com", subject=f"{len(subjects)} messages")
    return subjects
# services-import
from services import crm, mail

async def main(limit):
    for contact in (await crm.contacts.search(text="x"))["messages"][:limit]:
        message = await mail.users.messages.get(id=contact["id"])
        print(message)
    return "done"
# services-alias
import services as svc

async def main():
    mail = svc.mail
    listing = await mail.list()
    return len(listing["messages"])
# services-parallel
async def main():
    inbox, contacts = await gather(services.mail.list(), services.crm.contacts.search())
    pending = services.mail.send(to="x")
    other = services.mail.send(to="y")
    await other
    await pending
    return [len(inbox["messages"]), len(contacts["messages"])]
# host-tool
async def main():
    found = await call_host_tool("mail", "list", {"userId": "me"})
    again = await __callHostTool__("mail", "list", {})
    return found == again
# imported-names
from sequential.task import fetch as get, settle, sleep

async def main(url):
    await sleep(60 * 60 * 24 * 30)
    (result,) = await settle(get(url))
    return result["ok"]
# sleep-sync
import time

def main():
    time.sleep(3600)
    return time.strftime("%Y")
# plain-function
def main(rows):
    return sum(row["qty"] * row["price"] for row in rows)
# only-function
def total_of_orders(rows):
    return round(sum(row["qty"] for row in rows) / len(rows), 2)
# my-emails
def _short(text):
    return text[:3]

def other():
    return 1

def my_emails(text):
    return _short(text)
# guarded
import asyncio

async def main():
    return 1

if __name__ == "__main__":
    import argparse

    argparse.ArgumentParser().parse_args()
    asyncio.run(main())
# dataclasses
from dataclasses import dataclass, field

@dataclass
class Order:
    sku: str
    qty: int = 1
    tags: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.total = self.qty * 2

    def label(self) -> str:
        return f"{self.sku} x{self.qty} ({', '.join(self.tags) or 'no tags'})"

def main(rows):
    orders = [Order(row["sku"], row["qty"]) for row in rows]
    orders[0].tags.append("new")
    return [order.label() for order in orders], orders[0] == orders[1], orders[2].total
# frozen-dataclass
from dataclasses import dataclass

@dataclass(frozen=True, eq=True)
class Point:
    x: float
    y: float = 0.0

def main():
    seen = {Point(1), Point(1), Point(2, 3)}
    return len(seen), Point(1).x
# own-client
class Client:
    """Talks to one server."""

    retries = 2

    def __init__(self, base: str, token: str | None = None):
        self.base = base.rstrip("/")
        self.token = token
        self.count = 0

    async def get(self, path: str):
        self.count += 1
        response = await fetch(f"{self.base}/{path}", headers=self._headers())
        return response.json()

    def _headers(self):
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

async def main(url):
    client = Client(url, token="t")
    pages = [await client.get(f"page/{n}") for n in range(2)]
    return client.count, len(pages)
# own-container
class Basket:
    def __init__(self):
        self._lines = {}

    def __setitem__(self, key, value):
        self._lines[key] = value

    def __getitem__(self, key):
        return self._lines[key]

    def __contains__(self, key):
        return key in self._lines

    def __iter__(self):
        return iter(list(self._lines))

    def __add__(self, other):
        both = Basket()
        for key in self:
            both[key] = self[key]
        for key in other:
            both[key] = other[key]
        return both

    def __eq__(self, other):
        return self._lines == other._lines

    def __repr__(self):
        return f"Basket({self._lines!r})"

def main():
    a, b = Basket(), Basket()
    a["x"] = 1
    b["y"] = 2
    return [key for key in a + b], "x" in a, a == b, repr(a)
# context-manager
class Step:
    def __init__(self, name):
        self.name = name

    def __enter__(self):
        print("begin", self.name)
        return self

    def __exit__(self, kind, error, trace):
        print("end", self.name)
        return False

def main():
    with Step("one") as step:
        return step.name
# callable-object
class Adder:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return x + self.n

def main():
    add = Adder(3)
    return [add(x) for x in range(3)]
# regular-expressions
import re

EMAIL = re.compile(r"(?P<user>[\\w.]+)@(?P<host>[\\w.]+\\w)", re.IGNORECASE)

def main(text):
    found = [m.group("host") for m in EMAIL.finditer(text)]
    first = EMAIL.search(text)
    words = re.findall(r"[a-z]+", text.lower())
    cleaned = re.sub(r"\\s+", " ", text).strip()
    user = first.group("user") if first else None
    return found, user, len(words), cleaned[:9], re.split(r"[;.!]", text)[0]
# regular-expression-dict
import re

def main():
    pattern = r"(?P<year>\\d{4})-(?P<month>\\d\\d)"
    if match := re.match(pattern, "2026-03-04"):
        return match.groupdict(), match["year"], match.span()
# dates
from datetime import date, datetime, timedelta, timezone

def main(rows):
    now = datetime.now(timezone.utc)
    days = [date.fromisoformat(row["day"]) for row in rows]
    week = [day for day in days if days[0] <= day < days[0] + timedelta(days=7)]
    parsed = datetime.strptime("04.03.2026 05:06", "%d.%m.%Y %H:%M").replace(tzinfo=timezone.utc)
    age = (now - parsed).total_seconds()
    return len(week), now.isoformat(timespec="seconds"), parsed.strftime("%A %d %B"), age > 0
# date-module
import datetime

def main():
    start = datetime.datetime(2026, 1, 31, 12, 0)
    until = start + datetime.timedelta(weeks=2, hours=3)
    return until.date().isoformat(), until.weekday(), (until - start).days, start.year
# iso-dates
import datetime as dt

def main():
    at = dt.datetime.fromisoformat("2026-03-04T05:06:07+00:00")
    local = at.astimezone(dt.timezone(dt.timedelta(hours=2)))
    return local.hour, at.timestamp(), f"{at:%Y-%m-%d}", dt.date.today().year
# counting
from collections import Counter, defaultdict

def main(rows, text):
    by_sku = defaultdict(list)
    for row in rows:
        by_sku[row["sku"]].append(row["qty"])
    totals = {sku: sum(found) for sku, found in by_sku.items()}
    letters = Counter(text.lower().replace(" ", ""))
    best = max(totals, key=lambda sku: totals[sku])
    return totals, letters.most_common(2), best
# sorting
def main(rows, names):
    by_value = sorted(rows, key=lambda row: (-row["qty"], row["sku"]))
    names = sorted(names, key=lambda name: name.lower(), reverse=True)
    rows.sort(key=lambda row: row["price"])
    cheapest, dearest = min(rows, key=lambda r: r["price"]), max(r["price"] for r in rows)
    return [row["sku"] for row in by_value], names, cheapest["sku"], dearest
# grouping
from itertools import accumulate, chain, groupby, islice

def main(rows):
    ordered = sorted(rows, key=lambda row: row["sku"])
    grouped = groupby(ordered, key=lambda r: r["sku"])
    groups = {sku: [r["qty"] for r in found] for sku, found in grouped}
    running = list(accumulate(row["qty"] for row in rows))
    flat = list(chain.from_iterable(groups.values()))
    return groups, running, flat, list(islice(flat, 2))
# endless-loop
from itertools import count

def main():
    for n in count(1):
        if n * n > 50:
            break
    return n
# money
from decimal import ROUND_HALF_UP, Decimal

def main(rows):
    total = sum((Decimal(str(row["price"])) * row["qty"] for row in rows), Decimal("0"))
    vat = (total * Decimal("0.19")).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    return f"{total:.2f}", str(vat)
# text-work
def main(text, names):
    lines = [f"{name:<10}|{i:>3}" for i, name in enumerate(names, start=1)]
    title = " ".join(word.capitalize() for word in text.split()[:3])
    head, _, tail = text.partition(";")
    table = "\\n".join(lines)
    has_mail = any("@" in word for word in text.split())
    return title, head, tail.strip(), table, has_mail, text.replace("The", "A", 1), "a-b".split("-")
# formats
def main(limit):
    big = 1234567.891
    first = f"{big:,.2f}", f"{limit:05d}", f"{0.256:.1%}"
    return first, "%s is %d" % ("x", 3), "{} {a}".format(1, a=2)
# csv-out
import csv

def main(rows):
    lines = ["sku;qty", *[f"{row['sku']};{row['qty']}" for row in rows]]
    back = list(csv.DictReader(lines, delimiter=";"))
    return [row["qty"] for row in back]
# json-work
import json

def main(rows):
    text = json.dumps(rows, indent=2, ensure_ascii=False)
    try:
        json.loads("{broken")
    except json.JSONDecodeError as error:
        reason = str(error)
    except ValueError:
        reason = "?"
    return len(json.loads(text)), reason
# toml
import tomllib

def main():
    return tomllib.loads("[a]\\nb = 1")["a"]["b"]
# nested-data
def main():
    config = {"db": {"host": "h", "ports": [1, 2]}, "debug": None}
    config["db"]["ports"].append(3)
    config.setdefault("tags", []).append("x")
    merged = {**config, "debug": True} | {"extra": (1, 2)}
    first, *rest = config["db"]["ports"]
    value = config.get("db", {}).get("user", {}).get("name", "nobody")
    return merged["extra"], first, rest, value, list(merged)
# heterogeneous
def main():
    state = {"count": 0, "seen": [], "last": None}
    for n in range(3):
        state["count"] += 1
        state["seen"].append(n)
        state["last"] = n
    row = [1, "a", None, 2.5]
    row.append({"x": 1})
    matrix = [[0] * 3 for _ in range(2)]
    matrix[1][2] = 1.5
    return state, row, matrix
# optional-values
from typing import Any, Optional

def pick(data: dict[str, Any], key: str, default: Optional[str] = None) -> Optional[str]:
    value = data.get(key)
    return value if isinstance(value, str) else default

def main(text):
    found = pick({"a": "x"}, "a")
    missing = pick({}, "a", "none") or ""
    return found, missing.upper(), len(text)
# annotations
from __future__ import annotations

from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, object]
Handler = Callable

def apply(function: Callable[[int], int], value: int = None, *more: int) -> list[int]:
    return [function(v) for v in [value or 0, *more]]

def main(limit: int) -> list[int]:
    data: Mapping[str, int] = {"a": limit}
    return apply(lambda n: n + data["a"], 1, 2)
# closures
def counter(start=0):
    n = start

    def step(by=1):
        nonlocal n
        n += by
        return n

    return step

CALLS = 0

def note():
    global CALLS
    CALLS += 1

def main():
    step = counter(10)
    note()
    note()
    return step(), step(by=5), CALLS
# recursion
from functools import cache, lru_cache, partial, reduce

@cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

@lru_cache(maxsize=None)
def depth(tree):
    return 1 + max((depth(child) for child in tree), default=0)

def main():
    add = partial(lambda a, b: a + b, 10)
    return fib(50), depth(((), ((),))), add(5), reduce(lambda a, b: a * b, [1, 2, 3, 4])
# error-handling
NotFound = LookupError

def parse(text):
    try:
        return int(text)
    except ValueError as error:
        raise RuntimeError(f"not a number: {text!r}") from error
    finally:
        print("parsed", text)

def main():
    out = []
    for text in ("1", "x"):
        try:
            out.append(parse(text))
        except RuntimeError as error:
            out.append({"error": str(error), "type": type(error).__name__, "args": error.args})
        else:
            out.append("fine")
    try:
        raise NotFound("nobody")
    except (NotFound, KeyError) as error:
        out.append(repr(error))
    return out
# network-errors
async def main(url):
    try:
        await fetch(f"{url}/down")
    except TimeoutError:
        return "slow"
    except ConnectionError as error:
        return f"down: {error}"
    except Exception as error:
        return f"other: {error}"
# optional-import
try:
    import orjson as json
except ImportError:
    import json

try:
    from zoneinfo import ZoneInfo
except (ImportError, ModuleNotFoundError):
    ZoneInfo = None

def main():
    return json.loads("[1]"), ZoneInfo is None
# random-choice
import random
import math

def main(names):
    picked = random.choice(names)
    token = "%032x" % random.getrandbits(128)
    shuffled = names[:]
    random.shuffle(shuffled)
    jitter = 1 + random.uniform(0, 0.1)
    sample = random.sample(names, k=2)
    same = sorted(shuffled) == sorted(names)
    return picked in names, len(token), same, jitter >= 1, math.floor(2.5), len(sample)
# hashing
import base64
import hashlib

def main(text):
    digest = hashlib.sha1(text.encode("utf-8")).hexdigest()
    key = base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")
    return digest[:8], key[:8], int(digest[:4], 16), bytes.fromhex("6162").decode()
# sets
def main(names):
    known = {"Ada", "Dee"}
    new = set(names) - known
    both = known & set(names)
    known |= new
    known.discard("Dee")
    return sorted(new), sorted(both), sorted(known), known >= {"Ada"}, dict.fromkeys(names, 0)
# walrus-and-slices
def main(text):
    if (n := len(text)) > 10:
        text = text[: n // 2]
    evens = [x for x in range(10) if x % 2 == 0]
    evens[1:3] = [99]
    return text[::-1][:4], evens, [y for x in evens if (y := x + 1) > 5], evens[-1]
# match-shapes
def describe(event):
    match event:
        case {"type": "order", "items": [first, *rest]}:
            return f"{first} and {len(rest)} more"
        case {"type": "note", **others} if others:
            return sorted(others)
        case [int(a), int(b)]:
            return a + b
        case str() as text:
            return text.upper()
        case None:
            return "nothing"
        case _:
            return "?"

def main():
    events = [{"type": "order", "items": [1, 2]}, {"type": "note", "a": 1}, [1, 2], "x", None, 5]
    return [describe(event) for event in events]
# namedtuples
from collections import deque, namedtuple

Point = namedtuple("Point", "x y count", defaults=[0])

def main():
    points = deque(maxlen=2)
    for n in range(4):
        points.append(Point(n, y=n * n))
    last = points[-1]._replace(x=7)
    return [p.x for p in points], last.count, last._asdict(), Point._fields
# iterators
def main(names):
    it = iter(names)
    first = next(it)
    rest = list(it)
    pairs = list(zip(names, range(len(names)), strict=True))
    found = next(iter([n for n in names if n.startswith("B")]), None)
    index = next((iter([i for i, n in enumerate(names) if n == "Cy"])), -1)
    return first, rest, pairs, found, index, list(reversed(names)), list(map(len, names))
# enum-by-hand
class Color:
    RED = "red"
    GREEN = "green"
    ALL = (RED, GREEN)

class Node:
    def __init__(self, value, children=()):
        self.value = value
        self.children = list(children)
        self.parent = None
        for child in self.children:
            child.parent = self

    def walk(self):
        found = [self.value]
        for child in self.children:
            found += child.walk()
        return found

def main():
    tree = Node(1, [Node(2), Node(3, [Node(4)])])
    return Color.ALL, tree.walk(), tree.children[0].parent.value
# polling
import time

async def main(url, limit):
    deadline = time.time() + 3600
    for _ in range(limit):
        body = (await fetch(url)).json()
        if body["total"] >= 2 or time.time() > deadline:
            return body["total"]
        await sleep(30)
    raise TimeoutError("never ready")
# workflow
STEPS = []

def log(message, *, level="info", **fields):
    STEPS.append((level, message, fields))
    print(f"[{level}] {message}", *[f"{k}={v}" for k, v in fields.items()])

async def load(url):
    log("loading", url=url)
    body = (await fetch(url)).raise_for_status().json()
    return {item["id"]: item for item in body["items"]}

async def notify(item):
    return await services.mail.send(to=item["name"], text=f"{item['price']:.2f} EUR")

async def main(url):
    items = await load(url)
    wanted = {key: item for key, item in items.items() if item["price"] > 2}
    sent = await settle(*[notify(item) for item in wanted.values()])
    failed = sum(1 for s in sent if not s["ok"])
    if failed:
        log("some failed", level="warning", count=failed)
    return {"sent": len(sent) - failed, "failed": failed, "log": len(STEPS)}
# started-early
async def main():
    first = services.mail.list()
    second = services.crm.contacts.search(text="a")
    calls = {"mail": first, "crm": second}
    return {name: len((await call)["messages"]) for name, call in calls.items()}
# async-helpers
import asyncio

async def each(function, values):
    return await asyncio.gather(*map(function, values))

async def double(n):
    await asyncio.sleep(0)
    return n * 2

def later(n):
    return double(n)

async def main():
    nested = [await double(n) for n in range(2)]
    return await each(double, [1, 2]), await later(5), nested, {n: await double(n) for n in (1, 2)}
# method-gather
class Shop:
    def __init__(self, url):
        self.url = url
        self.items = []
        self.get = None

    async def load(self):
        self.items = (await fetch(self.url)).json()["items"]
        return self

    async def price(self, name):
        return next(iter([i["price"] for i in self.items if i["name"] == name]), None)

async def main(url, names):
    shop = await Shop(url).load()
    return await gather(*[shop.price(name) for name in names])
'''


def tasks() -> dict[str, str]:
    """Name of each task -> its source."""
    found = {}
    for part in _SOURCES.split("\n# ")[1:]:
        name, _, source = part.partition("\n")
        found[name] = source.strip() + "\n"
    return found
