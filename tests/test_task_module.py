"""`sequential.task` says what the prelude of the sandbox gives, and works as far as it can."""

import ast
import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from sequential import task
from sequential.runtimes.sandbox import prelude
from sequential.runtimes.sandbox.dry_run import dry_run
from sequential.runtimes.sandbox.stubs import IMPORTED_NAMES, TASK_NAMES

ANSWER = {
    "status": 200,
    "headers": [["Content-Type", "text/plain"], ["Set-Cookie", "a"], ["set-cookie", "b"]],
    "url": "http://x/",
    "text": '{"n": 1}',
}


def definitions() -> dict[str, ast.AST]:
    """The functions and classes of the prelude, by name."""
    found: dict[str, ast.AST] = {}
    for node in ast.walk(ast.parse(prelude.SOURCE)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.setdefault(node.name, node)
    return found


def parameters(function: ast.AST) -> list[tuple[str, bool, str]]:
    """Name, whether only by keyword, and default of each parameter."""
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    found = [(a.arg, False, _shown(d)) for a, d in zip(positional, defaults, strict=True)]
    found += [
        (a.arg, True, _shown(d)) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    return found + ([(f"*{given.vararg.arg}", False, "")] if given.vararg else [])


def _shown(default: ast.expr | None) -> str:
    return ast.unparse(default) if default else ""


@pytest.mark.parametrize("name", ["fetch", "settle", "step", "now", "random", "uuid4"])
def test_functions_have_the_parameters_of_the_prelude(name: str) -> None:
    ours = ast.parse(inspect.getsource(getattr(task, name))).body[0]
    theirs = definitions()[name]
    assert type(ours) is type(theirs)
    assert parameters(ours) == parameters(theirs)


@pytest.mark.parametrize("name", ["Headers", "Response"])
def test_classes_have_the_methods_of_the_prelude(name: str) -> None:
    def methods(node: ast.AST) -> dict[str, list[tuple[str, bool, str]]]:
        assert isinstance(node, ast.ClassDef)
        return {f.name: parameters(f) for f in node.body if isinstance(f, ast.FunctionDef)}

    ours = ast.parse(inspect.getsource(getattr(task, name))).body[0]
    assert methods(ours) == methods(definitions()[name])


def test_every_name_of_a_task_can_be_imported() -> None:
    builtin = {"ConnectionError"}
    assert {name for name in TASK_NAMES - builtin if not hasattr(task, name)} == set()
    assert set(task.__all__) <= TASK_NAMES | IMPORTED_NAMES


def test_the_sandbox_knows_every_name() -> None:
    code = f"from sequential.task import {', '.join(task.__all__)}\ndef main():\n    return 1\n"
    assert dry_run(code, task="main") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: task.fetch("http://x"),
        lambda: task.call_host_tool("crm", "find", {}),
        lambda: task.__callHostTool__("crm", "find"),
        lambda: task.services.crm.find(name="Ada"),
        lambda: task.services.gmail.users.messages.list(),
    ],
)
async def test_outside_of_a_run_the_world_is_out_of_reach(call: Callable[[], Any]) -> None:
    with pytest.raises(RuntimeError, match=r"start the task with `sequential-ecosystem run"):
        await call()


async def test_what_needs_no_host_works_outside_of_a_run() -> None:
    async def fails() -> None:
        raise ValueError("no")

    assert list(await task.gather(task.sleep(0, 1), task.sleep(0, 2))) == [1, 2]
    assert await task.settle(asyncio.sleep(0, 1), fails()) == [
        {"ok": True, "value": 1},
        {"ok": False, "error": "ValueError", "message": "no"},
    ]


def both_responses(answer: dict[str, Any]) -> Any:
    """The same answer as the prelude's `Response` and as ours."""
    namespace: dict[str, Any] = {"__fetch__": None}
    exec(prelude.SOURCE, namespace)
    return namespace["Response"](answer), task.Response(answer)


@pytest.mark.parametrize(
    "answer",
    [ANSWER, {**ANSWER, "status": 404}, {**ANSWER, "text": None, "content": b"\xff\x00"}],
)
def test_responses_behave_as_in_the_sandbox(answer: dict[str, Any]) -> None:
    theirs, ours = both_responses(answer)
    for attribute in ("status", "ok", "url", "text"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert ours.bytes() == theirs.bytes()
    assert repr(ours) == repr(theirs)
    for name in ("set-cookie", "Content-type", "missing"):
        assert ours.headers.get(name) == theirs.headers.get(name)
        assert ours.headers.get_all(name) == theirs.headers.get_all(name)
        assert (name in ours.headers) == (name in theirs.headers)
    assert ours.headers.items() == theirs.headers.items()
    assert (list(ours.headers), ours.headers.values()) == (
        list(theirs.headers),
        theirs.headers.values(),
    )
    assert repr(ours.headers) == repr(theirs.headers)
    with pytest.raises(KeyError):
        ours.headers["missing"]


def test_raise_for_status_and_json() -> None:
    ok, missing = task.Response(ANSWER), task.Response({**ANSWER, "status": 404})
    assert ok.raise_for_status() is ok
    assert ok.json() == {"n": 1}
    with pytest.raises(OSError, match="HTTP 404 for http://x/"):
        missing.raise_for_status()
