"""Modules, builtins, services and names nobody defines: the rule fires, and the VM refuses."""

import pytest

from sequential.runtimes.sandbox.lint import lint
from sequential.runtimes.sandbox.lint_words import BUILTINS, MEMBERS, MODULES
from sequential.runtimes.sandbox.prelude import SOURCE
from sequential.runtimes.sandbox.stubs import TASK_NAMES
from sequential.runtimes.sandbox.vm_names import vm_names
from support.sandbox_vm import SERVICES, Case, check

MISSING_MODULES = (
    "abc aiohttp argparse calendar collections.abc concurrent.futures contextlib enum heapq hmac"
    " html http.client httpx inspect io logging operator pandas pickle pydantic queue requests"
    " secrets shutil socket sqlite3 statistics string subprocess tempfile textwrap threading"
    " traceback types urllib urllib.parse uuid warnings xml.etree.ElementTree yaml zoneinfo"
).split()
MISSING_MEMBERS = [
    *(name for name in MEMBERS if name.partition(".")[0] in vm_names().modules),
    "math.cosine",
    "json.parse",
    "os.path.joinn",
    "os.fork",
]
CASES = [
    Case("from contextlib import contextmanager", "no module `contextlib`"),
    Case("from urllib.parse import quote", "no module `urllib.parse`"),
    Case("import json, uuid", "no module `uuid`"),
    Case("from . import other", "cannot import its neighbours"),
    Case("from math import cosine", "`math` has no `cosine`"),
    Case("from asyncio import create_task, gather", "`asyncio` has no `create_task`"),
    Case("import asyncio as aio\naio.create_task(fetch('u'))", "`asyncio` has no `create_task`"),
    Case("from os import path\npath.joinn('a')", "`os.path` has no `joinn`"),
    Case("print(asyncio.TimeoutError)", "`asyncio` is not defined"),
    Case(
        "import asyncio\ntry:\n    raise OSError('x')\nexcept asyncio.TimeoutError:\n    pass",
        "no `TimeoutError`",
        [4],
    ),
    Case("import re\nre.compile('a', re.VERBOSE)", "`re` has no `VERBOSE`"),
    Case("from services import nobody", "no service `nobody`"),
    Case("await services.nobody.list()", "no service `nobody`"),
    Case("await services.mail.lst()", "`mail` has no method `lst`"),
    Case("await services.mail.users.messages.got(id=1)", "no method `users.messages.got`"),
    Case("from services import mail as m\nawait m.lst()", "`mail` has no method `lst`"),
    Case("m = services.mail\nawait m.lst()", "`mail` has no method `lst`"),
    Case("x = 1\nprint(y)", "`y` is not defined"),
    Case("print(math.pi)", "`math` is not defined"),
    Case("def f():\n    return undefined_thing\nx = [f()]", "is not defined", [2]),
    Case("[y for x in [1]]", "`y` is not defined"),
    Case("x: bool = true", "`true` is not Python"),
    Case("x = null", "`null` is not Python"),
    Case("class A:\n    x = 1\n    def f(self):\n        return x\nA().f()", "`x` is not", [4]),
    Case("def f(a=b):\n    return a\nx = [f()]", "`b` is not defined", [1]),
    Case("@cached\ndef f():\n    pass", "`cached` is not defined", [1]),
    Case("try:\n    raise KeyError('x')\nexcept EOFError:\n    pass", "no `EOFError`", [3]),
    Case("x = input('name')", "there is no keyboard"),
    Case("print(f'{missing}')", "`missing` is not defined"),
    Case("try:\n    fech('u')\n    x = 1\nexcept OSError:\n    pass", "`fech` is not", [2]),
]


@pytest.mark.parametrize("name", MISSING_MODULES)
def test_a_module_is_missing(name: str) -> None:
    check(Case(f"import {name}", "has no module"))
    (found,) = lint(f"import {name}")
    assert found.instead


@pytest.mark.parametrize("name", MISSING_MEMBERS)
def test_a_module_has_no_such_name(name: str) -> None:
    module, _, member = name.rpartition(".")
    check(Case(f"from {module} import {member}", f"has no `{member}`"))
    check(Case(f"import {module}\nx = {name}", f"has no `{member}`"))


@pytest.mark.parametrize("name", sorted(vm_names().absent_builtins - {"ConnectionError"}))
def test_a_builtin_is_missing(name: str) -> None:
    check(Case(f"x = {name}", BUILTINS[name][0] if name in ("input", "super") else f"no `{name}`"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.source)
def test_the_name_is_not_there(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("source", "instead"),
    [
        ("await fech('u')", "`fetch`"),
        ("import jsn", "`json`"),
        ("from math import sqr", "`sqrt`"),
        ("total = 1\nprint(totl)", "`total`"),
        ("def f(customer):\n    return costumer", "`customer`"),
        ("json.dumps({})", "`import json` at the top of the file"),
        ("requests.get('u')", MODULES["requests"]),
        ("x = datetime.now()", "`from datetime import datetime` at the top of the file"),
        ("x = datetime.date.today()", "`import datetime` at the top of the file"),
        ("timedelta(days=1)", "`from datetime import timedelta` at the top of the file"),
        ("await services.mial.list()", "`mail`"),
        ("await services.mail.lists()", "`list`"),
        ("await call_host_tool('crm', 'contacts.serch', {})", "`contacts.search`"),
        ("from sequential.task import fetsh", "`fetch`"),
        ("counts = 1\nprint(count)", "`counts`"),
        ("print(sqrt(2))", "`from math import sqrt`"),
        ("raise Eror('x')", "`"),
    ],
)
def test_it_says_what_was_probably_meant(source: str, instead: str) -> None:
    (found,) = lint(source, services=SERVICES)
    assert found.instead.startswith(instead)


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import orjson as json\nexcept ImportError:\n    import json",
        "try:\n    import uuid as u\nexcept (ImportError, KeyError):\n    u = None",
        "try:\n    import uuid\nexcept:\n    uuid = None",
        "try:\n    x = unknown\nexcept NameError:\n    x = 1",
        "from sequential.task import fetch as get, services, sleep\nget, services, sleep",
        "import services\nfrom services import mail\nmail, services",
        "from services.mail import list as list_mail, users\nlist_mail, users",
        "ConnectionError, __name__, __file__, __doc__",
        "def f():\n    return later()\ndef later():\n    return 1",
        "def f():\n    global made\n    made = 1\ndef g():\n    return made",
        "class A:\n    xs = [1]\n    ys = [x for x in xs]\nA.ys",
        "def f():\n    def g():\n        nonlocal n\n        n = 2\n    n = 1\n    return g, n",
        "import os.path\nos.path.join('a', 'b')",
        "[x for xs in [[1]] for x in xs if (y := x)]\ny",
        "match [1]:\n    case [first, *rest]:\n        first, rest",
        "match {}:\n    case {'a': a, **others}:\n        a, others",
        "for i, (a, *b) in []:\n    i, a, b",
        "import json as codec\ncodec.loads('1')",
        "def f(a: bytearray, b: 'Unknown') -> object:\n    return a",
        "await services.any.thing.at.all(1)",
    ],
)
def test_known_names_are_left_alone(source: str) -> None:
    assert lint(source, services=SERVICES) == []


def test_services_are_not_checked_when_none_are_known() -> None:
    assert lint("await services.whatever.method()") == []


def test_an_unknown_name_in_an_annotation_is_only_a_warning() -> None:
    (found,) = lint("def f(a: Foo):\n    return a")
    assert (found.severity, found.message) == ("warning", "`Foo` is not defined")


def test_the_names_are_those_of_the_installed_vm() -> None:
    from importlib.metadata import version

    assert vm_names().vm == version("pydantic-monty")


def test_the_names_of_a_task_are_those_of_the_prelude() -> None:
    host = {"__callHostTool__", "call_host_tool", "run_task", "services", "wait_for_event"}
    for name in TASK_NAMES - host:
        assert f"\n{name} = " in SOURCE or f" {name}," in SOURCE or f" {name} = _build" in SOURCE
