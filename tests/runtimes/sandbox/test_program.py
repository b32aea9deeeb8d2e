"""How a task's source is made ready: what is called, with what, and that no line moves."""

import ast
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sequential.errors import InvalidTaskError
from sequential.runtimes.sandbox.program import blank_for_sandbox, prepare, source_lines
from support.sandbox_tasks import tasks
from support.sandbox_vm import run_task

ROOT = Path(__file__).parents[3]
EXAMPLES = [
    path
    for path in ROOT.glob("examples/*/code.py")
    if not path.with_name("graph.json").exists()  # these have no entry function
]
CORPUS = {path.parent.name: path.read_text() for path in EXAMPLES} | tasks()


def value_of(source: str, given: dict[str, Any] | None = None, task: str = "my-task") -> Any:
    """What the task returns."""
    ran = run_task(source, task, given or {})
    assert ran.error is None, ran
    return ran.value


# --- the entry function --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("functions", "entry"),
    [
        (["main", "other", "my_task"], "my_task"),
        (["other", "main", "_my_task"], "main"),
        (["_helper", "anything"], "anything"),
        (["__my_task", "only"], "only"),
        (["_main", "_my_task", "Only"], "Only"),
    ],
)
def test_the_entry_is_the_tasks_name_then_main_then_the_only_public_function(
    functions: list[str], entry: str
) -> None:
    source = "".join(f"def {name}(): return {name!r}\n" for name in functions)
    assert prepare(source, "my-task").entry == entry
    assert value_of(source) == entry


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "there is no public function"),
        ("# nothing but a comment", "there is no public function"),
        ("x = 1\n", "there is no public function"),
        ("def _hidden(): pass\n", "there is no public function"),
        ("if True:\n    def main(): pass\n", "there is no public function"),
        ("class A:\n    def main(self): pass\n", "there is no public function"),
        ("def a(): pass\nasync def b(): pass\n", "there are 2 public functions"),
    ],
)
def test_without_an_entry_the_message_says_how_to_name_one(source: str, why: str) -> None:
    with pytest.raises(InvalidTaskError, match=rf"{why} in my-task; name .* my_task\(\) or main"):
        prepare(source, "my-task")


def test_of_two_functions_with_the_same_name_the_later_counts() -> None:
    assert value_of("def main(): return 1\ndef main(): return 2\n") == 2


# --- its input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "given", "names", "expected"),
    [
        pytest.param("job()", {"a": 1}, "'none'", "none", id="no parameters"),
        pytest.param("job(input)", {"a": 1}, "input", {"a": 1}, id="the whole input"),
        pytest.param("job(event, /)", {"a": 1}, "event", {"a": 1}, id="the whole, positional"),
        pytest.param("job(a)", {"a": 1}, "a", 1, id="one field"),
        pytest.param("job(input={})", {"a": 1}, "input", {"a": 1}, id="the whole, or nothing"),
        pytest.param("job(input=None)", {"a": 1}, "input", {"a": 1}, id="the whole, or None"),
        pytest.param("job(size=5)", {}, "size", 5, id="the default of one field"),
        pytest.param("job(a, b)", {"b": 2, "a": 1, "c": 3}, "[a, b]", [1, 2], id="by name"),
        pytest.param("job(a, b=5)", {"a": 1}, "[a, b]", [1, 5], id="a default"),
        pytest.param("job(*, a, b=5)", {"a": 1}, "[a, b]", [1, 5], id="keywords only"),
        pytest.param(
            "job(a, b, /, c=3)", {"a": 1, "b": 2}, "[a, b, c]", [1, 2, 3], id="positional"
        ),
        pytest.param("job(a, b=7, /, c=3)", {"a": 1, "c": 2}, "[a, b, c]", [1, 7, 2], id="skipped"),
        pytest.param("job(**rest)", {"a": 1, "b": 2}, "rest", {"a": 1, "b": 2}, id="all by name"),
        pytest.param("job(a, **rest)", {"a": 1, "b": 2}, "[a, rest]", [1, {"b": 2}], id="the rest"),
        pytest.param("job(*rest)", {"a": 1}, "list(rest)", [], id="variable"),
        pytest.param("job(a: int, b: str = 'x') -> list", {"a": 1}, "[a, b]", [1, "x"], id="typed"),
        pytest.param("job(\n    a,\n    b = {'k': 1},\n)", {"a": 1}, "b['k']", 1, id="many lines"),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("parsed", [True, False], ids=["parsed", "newer syntax"])
def test_how_the_input_is_passed(
    *, kind: str, header: str, given: dict[str, Any], names: str, expected: Any, parsed: bool
) -> None:
    source = f"{kind} {header}:\n    return {names}\n"
    if not parsed:  # quotes within quotes came with Python 3.12
        source += "def _later():\n    return f'{d['a']}'\n"
    assert value_of(source, given, "job") == expected


def test_fields_of_an_undeclared_input_reach_keywords() -> None:
    prepared = prepare("def main(**fields): return fields\n", "job", ())
    assert prepared.input_fields is None


def test_a_missing_field_is_named() -> None:
    ran = run_task("def main(a, b): return a\n", "job", {"a": 1})
    assert ran.error == "TypeError: main() missing 1 required positional argument: 'b'"


# --- what is imported and what is guarded --------------------------------------------------------

IMPORTS = [
    "from sequential.task import fetch as get, settle",
    "from sequential.task import (\n    fetch as get,  # the one\n    settle,\n)",
    "from sequential.task import fetch as get, \\\n    settle",
    "x = 1; from sequential.task import fetch as get, settle; y = 2",
    "try:\n    from sequential.task import fetch as get, settle\nexcept ImportError:\n    pass",
    "if True: from sequential.task import fetch as get, settle",
]


@pytest.mark.parametrize("statement", IMPORTS)
def test_names_may_be_imported_under_other_names(statement: str) -> None:
    body = "async def main():\n    [one] = await settle(get('http://x'))\n    return one['ok']\n"
    assert value_of(f"{statement}\n{body}") is True


@pytest.mark.parametrize(
    "statement",
    [
        "from sequential.task import fetch",
        "from sequential.task import fetch as fetch",
        "from sequential.task import (\n        fetch,\n        sleep,\n    )",
    ],
)
def test_names_may_be_imported_inside_of_a_function(statement: str) -> None:
    source = f"async def main():\n    {statement}\n    return (await fetch('http://x')).status\n"
    assert value_of(source) == 200


GUARDS = [
    'if __name__ == "__main__":',
    "if __name__ == '__main__':",
    'if "__main__" == __name__:',
    'if (__name__ ==\n        "__main__"):',
    'if __name__=="__main__" :',
]


@pytest.mark.parametrize("guard", GUARDS)
def test_what_is_for_running_by_hand_does_not_run(guard: str) -> None:
    source = f"def main(): return seen\nseen = []\n{guard}\n    seen.append(1)\n"
    assert value_of(source) == []
    assert value_of(f"{source}else:\n    seen.append(2)\n") == [2]


def test_a_source_this_python_cannot_parse_keeps_its_imports_and_guards() -> None:
    source = """
from sequential.task import (
    fetch as get,
    settle,
)
async def only(input):
    [found] = await settle(get(f"http://x/{input["a"]}"))
    return found["value"].url
if __name__ == "__main__":
    asyncio.run(only({"a": 1}))
"""
    assert value_of(source, {"a": 5, "b": 1}) == "http://x/5"


def test_a_source_nobody_can_parse_is_reported_by_the_sandbox() -> None:
    assert "Expected a parameter" in str(run_task("def main(:\n", "job", {}).error)
    newer = "def _a(): return f'{d['a']}'\n"  # than Python 3.11, but not than others
    with contextlib.suppress(InvalidTaskError):
        assert "there is no public function" in str(run_task(newer, "job", {}).error)


@pytest.mark.parametrize(
    "source",
    [
        "def main(): return " + "-" * 20_000 + "1\n",
        "def main(): return " + "+".join(["1"] * 20_000) + "\n",
        "def main(): return " + "[" * 2000 + "]" * 2000 + "\n",
    ],
)
def test_a_source_too_deep_for_the_parser_fails_alone(source: str) -> None:
    assert "too deeply nested" in str(run_task(source, "job", {}).error)


# --- the line of every fetch ---------------------------------------------------------------------


def lines_of_fetches(source: str) -> list[int]:
    """The line numbers that the prepared source carries, in the order of the text."""
    return [int(n) for n in re.findall(r"__fetch_at__\((\d+)\)", prepare(source, "main").source)]


@pytest.mark.parametrize(
    ("expression", "lines"),
    [
        ("await fetch('u')", [2]),
        ("(await fetch(\n  'u',\n))", [2]),
        ("[await fetch('a'),\n await fetch('b')]", [2, 3]),
        ("await fetch((await fetch('a')).url)", [2, 2]),
        ("'grüße', 'Grüße 🐍', await fetch('u')", [2]),
        ("\tawait\tfetch\t('u')", [2]),
        ("await gather(*map(fetch, ['a', 'b']))", [2]),
        ("await gather(*[fetch(u) for u in\n  'ab'])", [2]),
        ('f\'ü{await fetch("u")} and {(await fetch("v")).status}\'', [2, 2]),
        ("'fetch(1) is not fetch', f'fetch(2) {await fetch(1)}'", [2]),
        ("x.fetch('u'), {'fetch': 1}, y(fetch=2)", []),
        ("get('u')", [2]),
        ("later(get)", [2]),
    ],
)
def test_each_fetch_knows_its_line(expression: str, lines: list[int]) -> None:
    source = (
        f"async def main():\n return ({expression})\nfrom sequential.task import fetch as get\n"
    )
    assert lines_of_fetches(source) == lines


def test_a_fetch_in_a_decorator() -> None:
    assert lines_of_fetches("@around(\n    fetch)\nasync def main(): pass\n") == [2]


@pytest.mark.parametrize(
    "statement",
    [
        "def fetch(url): return 'own'",
        "async def fetch(url): return 'own'",
        "class fetch: pass",
        "fetch = print",
        "(fetch := print)",
        "for fetch in []: pass",
        "from services.mail import list as fetch",
        "from services.mail import fetch",
        "import fetch",
        "import fetch.more",
        "def other(fetch): return fetch('u')",
        "later = lambda fetch: fetch('u')",
        "try: pass\nexcept OSError as fetch: pass",
        "match 1:\n    case fetch: pass",
        "match 1:\n    case [*fetch]: pass",
        "match 1:\n    case {**fetch}: pass",
        "match 1:\n    case fetch(): pass",
    ],
)
def test_a_fetch_of_the_tasks_own_is_left_alone(statement: str) -> None:
    source = f"{statement}\nasync def main():\n    return await fetch('u')\n"
    assert prepare(source, "main").source == f"{source}\nawait main()\n"


def test_a_task_may_wrap_fetch_under_its_own_name() -> None:
    source = """
from sequential.task import fetch as _fetch
async def fetch(path):
    return await _fetch("http://x" + path)
async def main():
    return (await fetch("/a")).url
"""
    assert lines_of_fetches(source) == [4]
    assert value_of(source, task="main") == "http://x/a"


@pytest.mark.parametrize(
    "text",
    [
        'f"""\n{await fetch(1)}\nfetch {await fetch(2)}"""',
        "f'fetch' f'{await fetch(1)} fetch'",
        "(f'fetch' 'fetch'\n  f'{await fetch(1)}')",
        "f'{x:{await fetch(1)}}'",
        "f'{await fetch(1)!r:>{await fetch(2)}} fetch'",
        "f'{await fetch(1)=}'",
    ],
)
def test_text_around_a_fetch_in_an_f_string_stays_as_it_was(text: str) -> None:
    """Python 3.11 is wrong about some of these places; then they carry no line."""
    source = f"async def main():\n  return {text}\n"
    back = re.sub(r"__fetch_at__\(\d+\)", "fetch", prepare(source, "main").source)
    assert back == f"{source}\nawait main()\n"
    ast.parse(prepare(source, "main").source)


# --- lines stay where they are -------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_every_line_end_counts_as_one_line(end: str) -> None:
    lines = ["from sequential.task import (", "  fetch as get,", ")", "async def main():"]
    lines += ["  text = '''a", "b'''", "  return [(await get('http://x')).status, text]", ""]
    source = end.join(lines)
    assert lines_of_fetches(source) == [7]
    assert source_lines(source) == lines
    assert value_of(source) == [200, "a\nb"]


def test_a_byte_order_mark_is_no_part_of_the_source() -> None:
    assert value_of("\ufeffasync def main():\n    return (await fetch('http://x')).ok\n") is True


def is_same(line: str, before: str) -> bool:
    """Whether a prepared line is what its author wrote, but for the name of `fetch`."""
    pattern = re.sub(r"__fetch_at__\\\(\d+\\\)", r"\\w+", re.escape(line))
    return re.fullmatch(pattern, before) is not None


def check_lines(source: str, task: str = "main") -> None:
    before = source_lines(source)
    after = prepare(source, task).source.split("\n")
    assert len(after) == len(before) + 2
    spans = statements_that_change(source)
    for number, (old, new) in enumerate(zip(before, after, strict=False), 1):
        if number not in spans:
            assert is_same(new, old), number
        for line in re.findall(r"__fetch_at__\((\d+)\)", new):
            assert int(line) == number


def statements_that_change(source: str) -> set[int]:
    spans: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "sequential.task":
            spans |= set(range(node.lineno, (node.end_lineno or 0) + 1))
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            spans |= set(range(node.test.lineno, (node.test.end_lineno or 0) + 1))
    return spans


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_no_line_of_a_task_moves(name: str) -> None:
    check_lines(CORPUS[name], name)
    blank = blank_for_sandbox(CORPUS[name]).split("\n")
    assert len(blank) == len(CORPUS[name].split("\n"))


PIECES = [
    *IMPORTS,
    *(f"{guard}\n    pass" for guard in GUARDS),
    "'''\nfetch(1)\n'''; fetch(2)",
    "x = fetch(fetch(1),\n  # fetch\n  fetch(2)); y = 'ü' + fetch",
    "",
    "# fetch('ä')",
    "def _f():\n\treturn fetch(1)\n\n\n",
    "z = [fetch(i) for i in '🐍'] or f'ü{fetch(1)}'",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
@example(PIECES, "\n")
def test_no_line_of_random_sources_moves(pieces: list[str], end: str) -> None:
    source = "\n".join([*pieces, "async def main(): return await fetch('ü')"]).replace("\n", end)
    check_lines(source)


def test_the_same_source_is_prepared_once() -> None:
    source = "def main(a): return a\n"
    assert prepare(source, "job", ("a",)) is prepare(source, "job", ("a",))
    assert prepare(source, "job", ()).input_fields is None
