"""Rules for places where the sandbox cannot pause: functions that builtins call, and dunders."""

import ast
from collections.abc import Iterator

from sequential.runtimes.sandbox.lint_source import Problem, Source

_KEY = -1  # the keyword `key` instead of a position
# Builtins that call a function, and which of their arguments it is.
CALLERS = {
    "collections.defaultdict": 0,
    "filter": 0,
    "itertools.accumulate": 1,
    "itertools.dropwhile": 0,
    "itertools.filterfalse": 0,
    "itertools.groupby": _KEY,
    "itertools.starmap": 0,
    "itertools.takewhile": 0,
    "iter": 0,
    "map": 0,
    "max": _KEY,
    "min": _KEY,
    "sorted": _KEY,
}
KEYWORDS = {"key", "default_factory"}
MAY_PAUSE = {"__init__", "__enter__", "__exit__", "__call__", "__post_init__"}
CLOCK = frozenset(
    {
        "datetime.date.today",
        "datetime.datetime.now",
        "time.monotonic",
        "time.monotonic_ns",
        "time.perf_counter",
        "time.perf_counter_ns",
        "time.sleep",
        "time.time",
        "time.time_ns",
    }
)
ASKS_HOST = (
    frozenset("__callHostTool__ asyncio.sleep call_host_tool run_task sleep wait_for_event".split())
    | CLOCK
)
FIRST = (
    "list what it needs first: `[await f(x) for x in xs]` or `await gather(*[f(x) for x in xs])`"
)
BEFORE = "ask before, and use the answer: `now = datetime.now()`"


def callbacks(source: Source) -> Iterator[Problem]:
    for call in source.nodes(ast.Call):
        for given in _functions_given(source, call):
            if asked := host_call(source, given):
                yield source.problem(
                    given,
                    f"{source.text(asked)}() cannot be called here: {source.text(call.func)}() "
                    "does not wait for the host",
                    BEFORE if source.origin(asked) in CLOCK else FIRST,
                )


def _functions_given(source: Source, call: ast.Call) -> Iterator[ast.expr]:
    """The functions that a builtin gets to call."""
    origin = source.origin(call.func)
    position = CALLERS.get(origin)
    is_iter_of_list = origin == "iter" and len(call.args) < 2
    if position is not None and 0 <= position < len(call.args) and not is_iter_of_list:
        yield call.args[position]
    is_sort = isinstance(call.func, ast.Attribute) and call.func.attr == "sort"
    if position == _KEY or is_sort or origin == "dataclasses.field":
        yield from (one.value for one in call.keywords if one.arg in KEYWORDS)


def dunders(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.ClassDef):
        for method in node.body:
            if not isinstance(method, ast.FunctionDef) or method.name in MAY_PAUSE:
                continue
            if method.name.startswith("__") and method.name.endswith("__"):
                for place, asked in _host_calls(source, method, set()):
                    yield source.problem(
                        place,
                        f"{source.text(asked)}() cannot be called in `{method.name}`: it does "
                        "not wait for the host",
                        "an `async def` method with a name of its own",
                    )


def host_call(source: Source, given: ast.expr) -> ast.expr | None:
    """The function of the host that a function calls, or is itself; None if there is none."""
    if _asks(source, given):
        return given
    if isinstance(given, ast.Call) and source.origin(given.func) == "functools.partial":
        return host_call(source, given.args[0]) if given.args else None
    function = given if isinstance(given, ast.Lambda) else source.function(given)
    if isinstance(function, ast.FunctionDef | ast.Lambda):
        return next((asked for _, asked in _host_calls(source, function, set())), None)
    return None


def _host_calls(
    source: Source, function: ast.FunctionDef | ast.Lambda, seen: set[ast.AST]
) -> Iterator[tuple[ast.Call, ast.expr]]:
    """The calls to the host inside of a function, also through plain functions of this file."""
    if function in seen:
        return
    seen.add(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            if _asks(source, node.func):
                yield node, node.func
            elif isinstance(inner := source.function(node.func), ast.FunctionDef):
                for _, asked in _host_calls(source, inner, seen):
                    yield node, asked


def _asks(source: Source, function: ast.expr) -> bool:
    origin = source.origin(function)
    is_method = origin.startswith("services.") and origin.count(".") > 1
    return is_method or origin in ASKS_HOST


RULES = (callbacks, dunders)
