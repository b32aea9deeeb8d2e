"""Where `await` is missing or superfluous, and where the VM cannot wait: rules against the VM."""

import pytest

from sequential.runtimes.sandbox.lint import lint
from support.sandbox_vm import SERVICES, Case, check, run, told

MISSING = "`await` is missing before"
# (source, what the VM gives instead of an error; ... when it refuses)
FORGOTTEN = [
    Case("fetch('u').json()", MISSING),
    Case("fetch('u').status", MISSING),
    Case("services.mail.list()['messages']", MISSING),
    Case("call_host_tool('mail', 'list', {})['messages']", MISSING),
    Case("__callHostTool__('mail', 'list', {})['messages']", MISSING),
    Case("settle(fetch('u'))[0]", MISSING),
    Case("x = 1 + services.mail.list()", MISSING),
    Case("for x in services.mail.list():\n    pass", MISSING, [1]),
    Case("[x for x in gather(fetch('u'))]", MISSING),
    Case("print(*services.mail.list())", MISSING),
    Case("len(services.mail.list())", MISSING),
    Case("import json\njson.dumps(services.mail.list())", MISSING),
    Case("a, b = gather(fetch('u'), fetch('v'))", MISSING),
    Case("with fetch('u') as r:\n    pass", MISSING, [1]),
    Case("async def load():\n    return 1\nload() + 1", MISSING),
    Case("async def load():\n    return {}\nload()['a']", MISSING),
    Case("r = fetch('u')\nr.json()", MISSING, [1]),
    Case("r = fetch('u')\nif r.ok:\n    print(r.status)", MISSING, [1]),
    Case("from services import mail\nx = mail.list()\nx['messages']", MISSING, [2]),
    Case("import asyncio\nx = asyncio.gather(fetch('u'))\nx[0]", MISSING, [2]),
    Case("from sequential.task import fetch as get\nget('u').json()", MISSING),
    Case("async def f():\n    return fetch('u')\nx = await f()\nx.status", MISSING, [2]),
    Case(
        "class A:\n    async def load(self):\n        return {}\n    async def run(self):\n"
        "        return self.load()['a']\nawait A().run()",
        MISSING,
        [5],
    ),
    Case("f'{fetch(1)}'", MISSING, otherwise="<Response [200]>"),
    Case("bool(settle())", MISSING, otherwise=False),
    Case("[str(sleep(1))]", MISSING, otherwise=["None"]),
    Case("'no' if settle() else 'yes'", MISSING, otherwise="yes"),
    Case("x = 0\nif settle():\n    x = 1\nx", MISSING, [2], otherwise=0),
]
SUPERFLUOUS = [
    Case("r = await fetch('u')\nawait r.json()", "is no async method"),
    Case("r = await fetch('u')\nawait r.text", "is there already"),
    Case("await (await fetch('u')).json()", "is no async method"),
    Case("import time\nawait time.sleep(1)", "asyncio.sleep() is"),
    Case("await print('x')", "print() is not async"),
    Case("import json\nawait json.loads('{}')", "is not async"),
    Case("await [fetch('u')]", "nothing to wait for"),
    Case("await [fetch(u) for u in 'ab']", "a list cannot be awaited"),
    Case("def show():\n    print(1)\nawait show()", "returns nothing"),
    Case("a = fetch('u')\nfor i in range(2):\n    await a", "again on every round"),
]
NO_WAITING = [
    Case("list(map(services.mail.list, [1]))", "map() does not wait"),
    Case("list(map(lambda x: services.mail.list(x), [1]))", "map() does not wait"),
    Case("list(filter(lambda x: services.mail.list(x), [1]))", "filter() does not wait"),
    Case("sorted([1, 2], key=lambda x: services.mail.list(x))", "does not wait"),
    Case("max([1, 2], key=lambda x: services.mail.list(x))", "does not wait"),
    Case("xs = [1, 2]\nxs.sort(key=lambda x: services.mail.list(x))", "does not wait"),
    Case("def key(x):\n    return services.mail.list(x)\nsorted([1], key=key)", "does not wait"),
    Case(
        "def deep(x):\n    return services.mail.list(x)\ndef key(x):\n    return deep(x)\n"
        "min([1, 2], key=key)",
        "does not wait",
    ),
    Case("next(iter(lambda: services.mail.list(), 1))", "does not wait"),
    Case("from functools import partial\nlist(map(partial(services.mail.list, 1), [1]))", "wait"),
    Case("from collections import defaultdict\ndefaultdict(services.mail.list)[1]", "not"),
    Case("import itertools\nlist(itertools.starmap(services.mail.list, [[1]]))", "does not wait"),
    Case("import itertools\nlist(itertools.groupby([1], key=services.mail.list))", "not wait"),
    Case("from datetime import datetime\nsorted([1], key=lambda x: datetime.now())", "not wait"),
    Case("import time\nlist(map(lambda x: time.time(), [1]))", "does not wait"),
    Case("import time\nmax([1, 2], key=lambda x: time.sleep(1) or x)", "does not wait"),
    Case("list(map(lambda x: call_host_tool('mail', 'list', {}), [1]))", "does not wait"),
    Case(
        "from dataclasses import dataclass, field\nfrom datetime import datetime\n@dataclass\n"
        "class A:\n    at: object = field(default_factory=lambda: datetime.now())\nA()",
        "does not wait",
        [5],
    ),
    Case(
        "import time\nclass A:\n    def __str__(self):\n        return str(time.time())\nstr(A())",
        "cannot be called in `__str__`",
        [4],
    ),
    Case(
        "class A:\n    def __getitem__(self, k):\n        return services.mail.list(k)\n"
        "await A()[1]",
        "cannot be called in `__getitem__`",
        [3],
    ),
    Case("async def key(x):\n    return x\nsorted([2, 1], key=key)", "nothing here awaits it"),
    Case(
        "async def odd(x):\n    return False\nlen(list(filter(odd, [1])))",
        "nothing here awaits it",
        otherwise=0,
    ),
]


@pytest.mark.parametrize("case", FORGOTTEN, ids=lambda case: case.source)
def test_await_is_missing(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("fetch('u')", 1),
        ("r = fetch('u')", 1),
        ("async def f():\n    fetch('u')\n    return 1\nx = await f()", 1),
        ("async def save():\n    await services.mail.send()\nsave()", 1),
        ("async def save():\n    await services.mail.send()\nx = [await sleep(0)]\nsave()", 2),
    ],
)
def test_what_nobody_awaits_never_happens(source: str, calls: int) -> None:
    (found,) = lint(source)
    assert MISSING in found.message
    assert len(run(source).calls) < calls


@pytest.mark.parametrize("case", SUPERFLUOUS, ids=lambda case: case.source)
def test_await_is_superfluous(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", NO_WAITING, ids=lambda case: case.source)
def test_the_vm_cannot_wait_here(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    "source",
    [
        "r = fetch('u')\n(await r).status",
        "calls = [fetch(u) for u in 'ab']\nawait gather(*calls)",
        "calls = []\ncalls.append(fetch('u'))\nawait gather(*calls)",
        "a = services.mail.list()\nb = services.mail.list()\nx = [await b, await a]",
        "await gather(*map(fetch, 'ab'))",
        "def get(u):\n    return fetch(u)\nawait get('u')",
        "get = lambda u: fetch(u)\nawait get('u')",
        "await (fetch('u') if 1 else fetch('v'))",
        "async def one(u):\n    return await fetch(u)\nawait gather(*(one(u) for u in 'ab'))",
        "async def one(u):\n    return u\nawait gather(*map(one, 'ab'))",
        "import asyncio\nr = asyncio.run(fetch('u'))\nr.status",
        "tasks = {'a': fetch('u')}\nfor name, task in tasks.items():\n    await task",
        "r = fetch('u')\nr = await r\nr.status",
        "async def f():\n    return 1\nasync def g():\n    x = f()\n    return await x\nawait g()",
        "pending = fetch('u')\nasync def later():\n    return await pending\nawait later()",
        "from functools import reduce\nreduce(lambda a, x: [*a, services.mail.list(x)], [1], [])",
        (
            "class A:\n    def __enter__(self):\n        return services.mail.list()\n"
            "    def __exit__(self, *a):\n        pass\nwith A() as a:\n    await a"
        ),
        "class A:\n    async def get(self):\n        return 1\nawait A().get()",
        "for attempt in range(3):\n    call = fetch('u')\n    await call",
        "import random\nrandom.random()\nsorted([1, 2], key=lambda x: x)",
        "def lazy(make):\n    return make()\nawait lazy(lambda: fetch('u'))",
        "def f():\n    return services.mail.list()\nawait f()",
        "await getattr(services.mail, 'list')()",
        "calls = [fetch('u')]\nawait next(iter(calls))",
        "async def wrap(call):\n    return await call\nawait wrap(fetch('u'))",
    ],
)
def test_what_is_awaited_later_is_left_alone(source: str) -> None:
    assert told(lint(source, services=SERVICES)) == []
    assert run(source).error is None


def test_it_says_where_and_what() -> None:
    (found,) = lint("async def main():\n    response = fetch('u')\n    return response.json()\n")
    assert (found.line, found.column) == (2, 16)
    assert found.message == "`await` is missing before fetch(...): a coroutine has no `json`"
    assert found.instead == "`await fetch(...)`"
