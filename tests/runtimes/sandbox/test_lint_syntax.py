"""What the sandbox refuses to compile: the rule fires, and the VM really refuses."""

import pytest

from sequential.runtimes.sandbox.lint import lint
from support.sandbox_vm import Case, check

CASES = [
    Case("x = 1\ndel x", "no `del`"),
    Case("d = {1: 2}\ndel d[1]", "no `del`"),
    Case("a = [1, 2, 3]\ndel a[0:2]", "no `del`"),
    Case("class A:\n    pass\na = A()\na.x = 1\ndel a.x", "no `del`"),
    Case("def f():\n    yield 1", "no generators"),
    Case("def f():\n    yield from [1]", "no generators"),
    Case("async def f():\n    yield 1", "no generators"),
    Case("f = lambda: (yield)", "no generators"),
    Case("async def f(x):\n    async with x:\n        pass", "no `async with`", [2]),
    Case("async def f(x):\n    async for y in x:\n        pass", "no `async for`", [2]),
    Case("async def f(xs):\n    return [x async for x in xs]", "asynchronous comprehensions"),
    Case("async def f(xs):\n    return {x: 1 async for x in xs}", "asynchronous comprehensions"),
    Case("try:\n    pass\nexcept* ValueError:\n    pass", "no `except*`", [1]),
    Case("x = [1]\nx @= [2]", "no `@=`"),
    Case("from math import *", "`import *` is not possible"),
    Case("class A(object):\n    pass", "takes no base", [1]),
    Case("class A(Exception):\n    pass", "cannot inherit", [1]),
    Case("class B:\n    pass\nclass A(B):\n    pass", "cannot inherit", [3]),
    Case("class A(metaclass=type):\n    pass", "cannot inherit", [1]),
    Case(
        "class A:\n    @property\n    def x(self):\n        return 1", "decorators on methods", [2]
    ),
    Case(
        "def d(f):\n    return f\nclass A:\n    @d\n    def x(self):\n        pass",
        "decorators",
        [4],
    ),
    Case(
        "def d(f):\n    return f\nclass A:\n    @d\n    async def x(self):\n        pass",
        "decorators on methods",
        [4],
    ),
    Case("class A:\n    x, y = 1, 2", "one plain name at a time"),
    Case("class A:\n    x = y = 1", "one plain name at a time"),
    Case("class A:\n    x = 1\n    x += 1", "methods and plain assignments"),
    Case("class A:\n    if True:\n        x = 1", "methods and plain assignments", [2]),
    Case("class A:\n    for i in [1]:\n        x = i", "methods and plain assignments", [2]),
    Case("class A:\n    class B:\n        pass", "methods and plain assignments", [2]),
    Case("class A:\n    import json", "methods and plain assignments"),
    Case("class A:\n    print('x')", "methods and plain assignments"),
    Case("class A:\n    x = (y := 1)", "methods and plain assignments"),
    Case("class A:\n    pass\na = A()\n[1 for a.x in [1]]", "only assign to plain names"),
    Case("a = [0]\n[1 for a[0] in [1]]", "only assign to plain names"),
    Case(
        "def f():\n    x = 1\n    class A:\n        def x(self):\n            return 1\n"
        "        def y(self):\n            return x\n    return A()",
        "hides a variable",
        [4],
    ),
]
# The VM runs these, and no other Python does.
LAX = [
    ("def f():\n    await sleep(1)", 2, "`await` in f(), which is not an async function"),
    ("f = lambda: await sleep(1)", 1, "`await` in a lambda"),
    ("x = 1\nreturn x", 2, "`return` outside of a function"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.source)
def test_the_sandbox_cannot_compile_it(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(("source", "line", "says"), LAX, ids=[one[0] for one in LAX])
def test_what_only_the_sandbox_allows_is_told_as_well(source: str, line: int, says: str) -> None:
    (found,) = lint(source)
    assert (found.line, found.message) == (line, says)


def test_every_problem_is_told_at_once_with_its_place() -> None:
    found = lint("import uuid\nclass A(Exception):\n    pass\ndel A\n")
    assert [(one.line, one.column) for one in found] == [(1, 1), (2, 1), (4, 1)]
    assert all(one.instead for one in found)


def test_columns_count_characters() -> None:
    (found,) = lint("x = 'ä€😀'; del x\n")
    assert found.column == 12


def test_a_syntax_error_is_the_only_problem() -> None:
    (found,) = lint("import uuid\nx = (1,\n\ny = [\n")
    assert found.message.startswith("syntax error")
    assert found.line in (2, 4)


@pytest.mark.parametrize("source", ["x = 1\0", "(" * 1000 + ")" * 1000, "x = '\ud800'"])
def test_what_cannot_be_parsed_at_all_is_a_problem_not_a_crash(source: str) -> None:
    assert len(lint(source)) == 1


def test_deep_sums_and_odd_escapes_do_no_harm() -> None:
    assert lint("x = " + " + ".join(["1"] * 800) + '\ny = "\\d"\n') == []


def test_what_never_runs_may_use_anything_that_compiles() -> None:
    guarded = "import argparse\n    main(open('x'))\n"
    assert lint(f"def main():\n    pass\nif __name__ == '__main__':\n    {guarded}") == []
    for_checkers = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import uuid\n"
    assert lint(for_checkers) == []
    assert len(lint("if __name__ == '__main__':\n    x = 1\n    del x\n")) == 1
