"""The dry run: everything at once, nothing twice, nothing run, and no false alarms."""

import time
from collections.abc import Sequence

import pytest

from sequential.runtimes.sandbox.dry_run import dry_run
from sequential.runtimes.sandbox.lint import lint
from support.sandbox_tasks import GIVEN, tasks
from support.sandbox_vm import SERVICES, run_task, told


@pytest.mark.parametrize("name", tasks())
def test_a_working_task_has_no_problems(name: str) -> None:
    source = tasks()[name]
    ran = run_task(source, name, GIVEN)
    assert ran.error is None
    assert told(lint(source, services=SERVICES)) == []
    assert told(dry_run(source, task=name, input_names=list(GIVEN), services=SERVICES)) == []


def test_the_corpus_is_large_enough() -> None:
    assert len(tasks()) >= 60


def check(source: str, task: str = "a-task", inputs: Sequence[str] = ()) -> list[str]:
    found = dry_run(source, task=task, input_names=inputs, services=SERVICES)
    return [f"{one.line}:{one.column} {one.message}" for one in found]


def in_main(line: str) -> str:
    return f"async def main():\n    {line}\n"


def test_everything_is_told_at_once_and_in_order() -> None:
    source = """\
import uuid
from typing import Awaitable

class NotFound(Exception):
    pass

async def main(days):
    response = fetch("https://example.com")
    print(respnse.status)
    names = sorted(["b"], key=str.lower)
    other = await fetch("https://example.com", metod="POST")
    total: int = "many"
    del names
    return other.status_code
"""
    assert check(source, inputs=["days"]) == [
        "1:1 the sandbox has no module `uuid`",
        "2:1 the sandbox's `typing` has no `Awaitable`",
        "4:1 classes cannot inherit in the sandbox: class NotFound(Exception)",
        "8:16 `await` is missing before fetch(...): nothing ever waits for `response`",
        "9:11 `respnse` is not defined; did you mean `response`?",
        "10:31 `str.lower` does not exist here, only the method of a value",
        "11:48 fetch() takes no `metod`; did you mean `method`?",
        '12:18 `"many"` does not fit the annotation `int`',
        "13:5 the sandbox has no `del`",
        "14:12 `Response` has no `status_code`",
    ]


@pytest.mark.parametrize(
    ("line", "message", "instead", "severity"),
    [
        ("r = await fetch('u')\n    r.status_code", "`Response` has no", "`.status`", "error"),
        ("r = await fetch('u')\n    r.content", "`Response` has no", "`.bytes()`", "error"),
        (
            "r = await fetch('u')\n    r.statuz",
            "has no `statuz`",
            "`status`",
            "error",
        ),
        ("r = await fetch('u')\n    r['a']", "no items", "`response.json()[...]`", "error"),
        ("r = await fetch('u')\n    r.json['a']", "is a method", "`response.json()[...]`", "error"),
        ("r = await fetch('u')\n    r.text()", "`str` cannot be called", "", "warning"),
        ("await fetch('u', body='x')", "fetch() takes no `body`", "`data=`", "error"),
        ("await fetch('u', 'POST')", "fetch() takes 1 argument(s)", "", "error"),
        ("await fetch()", "needs `url` as well", "", "error"),
        ("await fetch('u', timeout='5')", "fetch() takes `float | None`", "", "warning"),
        ("len(5)", "len() takes", "", "warning"),
        ("return 'a' + 1", "`+` does not work between", "", "warning"),
        ("return [1].push(2)", "`list[int]` has no `push`", "", "warning"),
        ("a, b = (1, 2, 3)", "Too many values", "", "warning"),
        ("raise 'oops'", "cannot be raised", "`raise RuntimeError", "error"),
        ("x: int = 'a'\n    return x", "does not fit the annotation", "", "warning"),
    ],
)
def test_types_are_told_in_plain_words(
    line: str, message: str, instead: str, severity: str
) -> None:
    (found,) = dry_run(in_main(line), task="t")
    assert message in found.message
    assert found.instead.startswith(instead)
    assert found.severity == severity
    assert "CoroutineType" not in found.message


@pytest.mark.parametrize(
    "source",
    [
        "async def load():\n    return {}\nasync def main():\n    x = load()\n    return x['a']\n",
        "async def main():\n    x = services.mail.list()\n    return x['a']\n",
        "async def main():\n    n = 1\n    n += services.mail.list()\n    return n\n",
        "async def main():\n    calls, n = [fetch('u')], 1\n    return n + calls[0]\n",
        "async def main():\n    calls = [fetch(u) for u in 'ab']\n    return calls[0].status\n",
        (
            "class A:\n    async def get(self):\n        return 1\n"
            "async def main():\n    return A().get() + 1\n"
        ),
        (
            "class A:\n    async def save(self):\n        return 1\n"
            "async def main():\n    a = A()\n    a.save()\n"
        ),
        "from services import mail\nasync def main():\n    return mail.list()['a']\n",
    ],
)
def test_a_forgotten_await_is_one_error(source: str) -> None:
    (found,) = dry_run(source, task="t", services=SERVICES)
    assert found.message.startswith("`await` is missing")
    assert found.severity == "error"


def test_a_superfluous_await_is_told_once() -> None:
    assert check(in_main("await 5")) == ["2:11 there is nothing to wait for here"]
    assert check(in_main("r = await fetch('u')\n    return await r")) == [
        "3:18 `Response` cannot be awaited"
    ]


@pytest.mark.parametrize(
    "source",
    [
        in_main("m = re.match('a', 'b')\n    return m.group(1)").replace(
            "async", "import re\nasync"
        ),
        "class A:\n    pass\ndef main():\n    a = A()\n    a.later = 1\n    return a.later\n",
        "def main(n: int = None, *, names: list[str] = None):\n    return n\n",
        "def main():\n    i = 0\n    return i\ndef _i():\n    return 1\n",
        "def main():\n    rows = [[0] * 3]\n    rows[0][1] = 1.5\n    return rows\n",
        "def main():\n    d = {'a': 1, 'b': []}\n    d['b'].append(d['a'] + 1)\n    return d\n",
        "from __future__ import annotations\ndef main() -> int:\n    return 1\n",
        "def main():\n    return '\\d'\n",
        "def main():\n    d = {('a', 1): 1, ('b', 2): 'two'}\n    d['a', 1] += 1\n    return d\n",
        "def main(data: dict):\n    return data['a']['b'][0].name\n",
        "def main(text: str | None = None):\n    return text.upper()\n",
    ],
)
def test_what_the_type_checker_only_suspects_is_not_told(source: str) -> None:
    assert check(source) == []


def test_the_entry_function_is_asked_for() -> None:
    assert check("x = 1\n") == ["1:1 there is no function to start"]
    assert check("def a():\n    pass\ndef b():\n    pass\n") == [
        "1:1 it is not clear which function to start: a, b"
    ]
    assert check("def a():\n    pass\ndef a_task():\n    pass\n") == []
    assert check("def a():\n    pass\ndef main():\n    pass\n") == []
    assert check("def a():\n    pass\ndef _b():\n    pass\n") == []


def test_parameters_are_held_against_the_inputs() -> None:
    source = "def main(day, *, limit, name='x'):\n    return day\n"
    assert check(source, inputs=["day"]) == [
        "1:18 main() needs `limit`, which is no input of the task"
    ]
    assert check(source, inputs=["day", "limit"]) == []
    assert check("def main(everything):\n    return everything\n", inputs=["day"]) == []
    assert check("def main(day, **others):\n    return others\n", inputs=["day", "x"]) == []
    assert check("def main(anything, more):\n    return more\n") == []


@pytest.mark.parametrize("call", ["main()", "await main()", "asyncio.run(main())", "x = main()"])
def test_calling_the_entry_function_would_run_it_twice(call: str) -> None:
    source = "import asyncio\nasync def main():\n    return 1\n"
    assert any("once more" in one for one in check(f"{source}{call}\n"))
    assert check(f"{source}if __name__ == '__main__':\n    {call}\n") == []


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("def main():\n    return (1,\n", "2:12"),
        ("def main()\n    return 1\n", "1:11"),
        ("def main():\n    x = = 1\n", "2:9"),
        ("def main():\n  return 1\n return 2\n", "3:10"),
        ("async def main():\n    print 'x'\n", "2:5"),
        ("def main():\n    break\n", "2:5"),
        ("def main(a, a):\n    return a\n", "1:5"),
        ("def main():\n    x = 1\n    global x\n", "3:5"),
    ],
)
def test_a_syntax_error_is_told_once_with_its_place(source: str, place: str) -> None:
    (found,) = check(source)
    assert found.startswith(f"{place} syntax error: "), found


@pytest.mark.parametrize(
    "source",
    [
        "def first[T](xs: list[T]) -> T:\n    return xs[0]\ndef main(x):\n    return first([x])\n",
        'def main(x):\n    return f"{\'a\' + "b"}"\n',
    ],
)
def test_syntax_of_later_pythons_is_left_to_the_vm(source: str) -> None:
    assert run_task(source, "main", {}).error is None
    assert check(source, task="main") == []


def test_later_syntax_that_the_vm_does_not_know_is_told_in_its_place() -> None:
    (found,) = dry_run("def main():\n    return 1\ntype X = int\n", task="main")
    assert (found.line, found.column) == (3, 1)
    assert found.message == "the sandbox has no `type` statement"
    (found,) = dry_run("def main():\n    return t'{1}'\n", task="main")
    assert (found.line, found.message) == (2, "the sandbox has no t-strings")


def test_not_one_line_is_run() -> None:
    source = (
        "print('hello')\nawait services.mail.send()\nwhile True:\n    pass\ndef main():\n    pass\n"
    )
    assert check(source) == []


def test_imports_of_the_task_module_keep_their_place() -> None:
    source = "from sequential.task import (\n    fetch as get,\n    settle,\n)\n"
    assert check(source + in_main("r = await get('u')\n    return r.statuss")) == [
        "7:12 `Response` has no `statuss`; did you mean `status`?"
    ]
    assert check(source + in_main("settle(get('u'))")) == [
        "6:5 `await` is missing before settle(...): nothing waits for it"
    ]


@pytest.mark.parametrize(
    "source",
    ["", "\n\n", "(" * 3000, "x = '\ud800'", "é = '\u2028'\nö", "\r\n\tx\r\n", "'" * 99],
)
def test_hostile_sources_are_problems_not_crashes(source: str) -> None:
    assert check(source)


def test_names_of_services_that_are_no_python_names_do_no_harm() -> None:
    services = {"odd-name": ["a-b", "class", "x.y-z"], "mail": ["list", "list.all"], "none": []}
    source = in_main("return await services.mail.list.all()")
    assert dry_run(source, task="t", services=services) == []


def test_it_takes_a_moment_only() -> None:
    source = "".join(
        f"async def step_{n}(url):\n    r = await fetch(url, params={{'n': {n}}})\n"
        f"    if not r.ok:\n        raise RuntimeError(f'failed: {{r.status}}')\n"
        f"    return [item['id'] for item in r.json()['items'] if item['n'] > {n}]\n"
        for n in range(40)
    )
    source += "async def main(url):\n    return await step_1(url)\n"
    lint(source)
    started = time.perf_counter()
    assert lint(source) == []
    assert time.perf_counter() - started < 0.05  # some 5 ms when nothing else runs
    started = time.perf_counter()
    assert dry_run(source, task="t") == []
    assert time.perf_counter() - started < 1.0  # some 50 ms
