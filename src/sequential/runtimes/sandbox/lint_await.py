"""Rules for `await`: where it is missing, and where there is nothing to wait for."""

import ast
from collections.abc import Iterator

from sequential.runtimes.sandbox.lint_source import Binding, Problem, Source
from sequential.runtimes.sandbox.vm_names import vm_names

AWAITABLE = frozenset(
    {
        "__callHostTool__",
        "asyncio.gather",
        "asyncio.sleep",
        "call_host_tool",
        "fetch",
        "gather",
        "run_task",
        "settle",
        "sleep",
        "wait_for_event",
    }
)
# Builtins that look at the value itself; others may keep it to be awaited later.
LOOKS_AT = frozenset(
    "abs all any bool bytes dict divmod enumerate filter float format int isinstance iter len list"
    " max min next pow print range repr reversed round set sorted str sum tuple type zip"
    " json.dumps json.loads".split()
)
# Functions of modules that may hand on something to await.
HANDS_ON = frozenset(
    "asyncio.run copy.copy copy.deepcopy eval functools.partial functools.reduce getattr max min"
    " next random.choice".split()
)
RESPONSE_METHODS = frozenset({"bytes", "json", "raise_for_status"})
RESPONSE_DATA = frozenset({"headers", "ok", "status", "text", "url"})


def awaited_name(source: Source, node: ast.AST) -> str:
    """What a call must be awaited for, as the author calls it; empty if it need not be."""
    if not isinstance(node, ast.Call):
        return ""
    origin = source.origin(node.func)
    is_method = origin.startswith("services.") and origin.count(".") > 1
    if origin in AWAITABLE or is_method or _is_async(source, node.func):
        return source.text(node.func)
    return ""


def _is_async(source: Source, function: ast.expr) -> bool:
    if isinstance(source.function(function), ast.AsyncFunctionDef):
        return not getattr(source.function(function), "decorator_list", ())
    match function:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            for above in source.above(function):
                if isinstance(above, ast.ClassDef):
                    return any(
                        isinstance(one, ast.AsyncFunctionDef) and one.name == name
                        for one in above.body
                    )
    return False


def forgotten(source: Source) -> Iterator[Problem]:
    for call in source.nodes(ast.Call):
        name = awaited_name(source, call)
        if name and (why := _misused(source, call)):
            yield source.problem(
                call, f"`await` is missing before {name}(...){why}", f"`await {name}(...)`"
            )


def _misused(source: Source, node: ast.expr) -> str:
    """Why this value cannot be meant as it stands; empty if it may be awaited later."""
    if why := _used_as_value(source, node):
        return why
    match source.parents[node]:
        case ast.Expr():
            return ": nothing waits for it"
        case ast.Return() as parent:
            function = source.function_around(parent)
            if isinstance(function, ast.AsyncFunctionDef):
                return f": {function.name}() would return a coroutine, not the answer"
        case (
            ast.Assign(targets=[ast.Name() as target]) | ast.AnnAssign(target=ast.Name() as target)
        ):
            return _variable_misused(source, target)
        case ast.Assign(targets=[ast.Tuple() | ast.List()]):
            return ": a coroutine cannot be unpacked"
    return ""


def _used_as_value(source: Source, node: ast.expr) -> str:
    """Whether the place where a coroutine stands needs the answer itself."""
    parent = source.parents[node]
    match parent:
        case ast.Attribute():
            return f": a coroutine has no `{parent.attr}`"
        case ast.Subscript() if parent.value is node:
            return ": a coroutine has no items"
        case ast.BinOp() | ast.Compare() | ast.UnaryOp() | ast.FormattedValue() | ast.AugAssign():
            return ": this would be the coroutine, not the answer"
        case ast.If() | ast.While() | ast.Assert() | ast.IfExp() if parent.test is node:
            return ": a coroutine is always true"
        case ast.For() | ast.comprehension() if parent.iter is node:
            return ": a coroutine cannot be looped over"
        case ast.Starred():
            return ": a coroutine cannot be looped over"
        case ast.withitem() if isinstance(source.parents[parent], ast.With):
            return ": a coroutine is no context manager"
        case ast.Call() if node in parent.args and source.origin(parent.func) in LOOKS_AT:
            return ": this would be the coroutine, not the answer"
    return ""


def _variable_misused(source: Source, target: ast.Name) -> str:
    """A coroutine kept under a name that nobody awaits or passes on."""
    scope = source.scopes[target].find(target.id)
    if scope is None or (scope.kind == "class"):
        return ""
    uses = source.loads(scope, target.id)
    why = [_used_as_value(source, use) for use in uses]
    if not uses:
        return f": nothing ever waits for `{target.id}`"
    return why[0] if all(why) else ""


def misused_functions(source: Source) -> Iterator[Problem]:
    """`sorted(xs, key=async_function)`: nobody would await what it returns."""
    for call in source.nodes(ast.Call):
        name = source.origin(call.func)
        given = [one.value for one in call.keywords if one.arg == "key"]
        if name == "filter":
            given += call.args[:1]
        for one in given:
            if isinstance(source.function(one), ast.AsyncFunctionDef):
                yield source.problem(
                    one,
                    f"{source.text(one)}() is async, and nothing here awaits it",
                    "a comprehension with `await` first: `[await f(x) for x in xs]`",
                )


def not_awaitable(source: Source) -> Iterator[Problem]:
    """`await` before something that has the answer already."""
    for node in source.nodes(ast.Await):
        if why := _has_answer(source, node.value):
            yield source.problem(node.value, why, "leave `await` out")


def _has_answer(source: Source, node: ast.expr) -> str:
    match node:
        case ast.Attribute(attr=name) if name in RESPONSE_DATA and _is_response(source, node):
            return f"`.{name}` of a response is there already"
        case ast.Call(func=ast.Attribute(attr=name) as method) if name in RESPONSE_METHODS:
            if _is_response(source, method):
                return f"`.{name}()` of a response is no async method"
        case ast.Constant() | ast.JoinedStr() | ast.List() | ast.Dict() | ast.Tuple():
            return "there is nothing to wait for here"
        case ast.ListComp() | ast.GeneratorExp():
            return "a list cannot be awaited: `await gather(*calls)` awaits what is in it"
    if isinstance(node, ast.Call):
        return _plain_function(source, node)
    return ""


def _is_response(source: Source, node: ast.Attribute) -> bool:
    return source.type(node.value) == "Response"


def _plain_function(source: Source, call: ast.Call) -> str:
    origin = source.origin(call.func)
    module, _, name = origin.rpartition(".")
    is_known = name in vm_names().modules.get(module, ()) or origin in vm_names().builtins
    if is_known and origin not in AWAITABLE | HANDS_ON:
        instead = ": asyncio.sleep() is" if origin == "time.sleep" else ""
        return f"{source.text(call.func)}() is not async{instead}"
    function = source.function(call.func)
    if isinstance(function, ast.FunctionDef) and not function.decorator_list:
        returns = [one for one in source.nodes(ast.Return) if _belongs(source, one, function)]
        if not any(one.value for one in returns):
            return f"{function.name}() is not async and returns nothing"
    return ""


def _belongs(source: Source, node: ast.AST, function: ast.FunctionDef) -> bool:
    return source.function_around(node) is function


def awaited_twice(source: Source) -> Iterator[Problem]:
    """`await x` in a loop over nothing new: a coroutine can be awaited once."""
    for node in source.nodes(ast.Await):
        found = source.bindings(node.value)
        if len(found) != 1 or not _is_kept_call(source, found[0]):
            continue
        if loop := _loop_between(source, node, found[0].node):
            yield source.problem(
                node,
                "this is awaited again on every round of the loop, which fails on the second",
                f"`await` it once before the loop on line {loop.lineno}",
            )


def _is_kept_call(source: Source, binding: Binding) -> bool:
    return binding.value is not None and bool(awaited_name(source, binding.value))


def _loop_between(source: Source, node: ast.AST, start: ast.AST) -> ast.For | ast.While | None:
    around_start = set(source.above(start))
    for above in source.above(node):
        if above in around_start or isinstance(above, ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        if isinstance(above, ast.For | ast.While):
            return above
    return None


RULES = (forgotten, misused_functions, not_awaitable, awaited_twice)
