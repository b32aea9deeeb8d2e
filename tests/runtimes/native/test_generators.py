"""Tasks written as generators, as in the original's executor."""

from typing import Any

import pytest

from sequential.core.model import Status, evolve
from support.native_lab import NativeLab

WORKFLOW = """
def workflow(input):
    user = yield {"__tool": ["api", "user", {"id": input["userId"]}]}
    posts = yield {"__tool": ["api", "posts", {"uid": user["id"]}]}
    comments = yield {"__tool": ["api", "comments", {"postIds": [p["id"] for p in posts]}]}
    return {"user": user, "posts": posts, "comments": comments}
"""
FLAKY = """
def workflow(input):
    result = yield {"__tool": ["api", "flaky", {}]}
    if "__error" in result:
        return {"failed": result["__error"]}
    return result
"""


@pytest.fixture
def api(lab: NativeLab) -> NativeLab:
    lab.methods(
        user=lambda **given: {**given, "name": "Ada"},
        posts=lambda uid: [{"id": uid * 10}, {"id": uid * 10 + 1}],
        comments=lambda postIds: [f"on {one}" for one in postIds],
        flaky=lambda: 1 / 0,
        list=lambda *given: list(given),
    )
    lab.tool.name = "api"
    return lab


async def test_a_workflow_of_the_original(api: NativeLab) -> None:
    assert await api.value(WORKFLOW, {"userId": 4}) == {
        "user": {"id": 4, "name": "Ada"},
        "posts": [{"id": 40}, {"id": 41}],
        "comments": ["on 40", "on 41"],
    }
    assert [one.method for one in api.tool.performed] == ["user", "posts", "comments"]


async def test_a_tools_error_is_a_value(api: NativeLab) -> None:
    assert await api.value(FLAKY) == {"failed": "ZeroDivisionError: division by zero"}


async def test_a_workflow_goes_on_in_another_process(api: NativeLab) -> None:
    """Each turn by an engine that has never seen the program."""
    async with api.engine() as engine:
        await api.store(engine, WORKFLOW)
        run = await engine.create_run("job", {"userId": 4})
    for _ in range(10):
        async with api.engine() as engine:
            run = await engine.drive(run.id, budget=0)
        if run.status.is_final:
            break
    assert run.value["comments"] == ["on 40", "on 41"]
    assert len(api.tool.performed) >= 3
    assert len(set(api.tool.keys())) == 3


@pytest.mark.parametrize(
    ("given", "seen"), [("[1, 2]", [1, 2]), ("(1,)", [1]), ("5", [5]), ("None", []), (None, [])]
)
async def test_what_a_tool_is_given(api: NativeLab, given: str | None, seen: Any) -> None:
    third = "" if given is None else f", {given}"
    code = f'def job(input):\n    return (yield {{"__tool": ["api", "list"{third}]}})\n'
    assert await api.value(code) == seen


@pytest.mark.parametrize(
    "yielded",
    [
        "5",
        "None",
        "{}",
        '{"__tool": "api"}',
        '{"__tool": ["api"]}',
        '{"__tool": ["api", 5, {}]}',
        '{"__tool": ["api", "list", 1, 2]}',
        '{"__save": False}',
        '{"__other": 1}',
    ],
)
async def test_other_yields_are_errors_that_say_what_to_yield(api: NativeLab, yielded: str) -> None:
    failure = await api.failure(f"def job(input):\n    yield {yielded}\n")
    assert failure.type == "TypeError"
    assert 'may yield {"__tool": [category, name, input]} or {"__save": True}' in failure.message


async def test_a_save_is_a_point_to_go_on_from(api: NativeLab) -> None:
    code = """
def job(input):
    for n in range(3):
        saved = yield {"__save": True}
        print(n, saved)
    return "saved"
"""
    run = await api.run(code)
    assert run.value == "saved"
    assert (run.turn, await api.log(run)) == (4, "0 None\n1 None\n2 None\n")


async def test_helpers_generators_and_exceptions(api: NativeLab) -> None:
    code = """
def page(number):
    return (yield {"__tool": ["api", "list", [number]]})

def job(input):
    try:
        found = []
        for number in range(3):
            found += yield from page(number)
        raise LookupError(f"{found}")
    finally:
        yield {"__tool": ["api", "list", ["tidied"]]}
"""
    run = await api.run(code)
    assert run.status is Status.FAILED
    assert str(run.error) == "LookupError: [0, 1, 2]"
    assert run.error is not None
    assert run.error.traceback[-1].source == 'raise LookupError(f"{found}")'
    assert api.tool.performed[-1].args == ("tidied",)


async def test_a_thousand_steps(api: NativeLab) -> None:
    code = """
def job(input):
    total = 0
    for n in range(1000):
        (got,) = yield {"__tool": ["api", "list", [n]]}
        total += got
    return total
"""
    run = await api.run(code)
    assert (run.value, run.turn) == (499500, 1001)


async def test_a_generator_whose_code_has_changed_is_stopped(api: NativeLab) -> None:
    async with api.engine() as engine:
        await api.store(engine, WORKFLOW)
        run = await engine.create_run("job", {"userId": 4})
        await engine.drive(run.id, budget=0)
    stored = await api.storage.get_task_run(run.id)
    assert stored is not None
    changed = evolve(stored, code=WORKFLOW.replace('"user"', '"users"'))
    api.storage._runs[run.id] = changed  # type: ignore[attr-defined]
    async with api.engine() as engine:
        run = await engine.resume(run.id)
    assert run.error is not None
    assert run.error.code == "non_determinism"
    assert "expected  api.user" in run.error.message
