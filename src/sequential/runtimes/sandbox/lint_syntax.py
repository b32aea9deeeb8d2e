"""Rules for what the sandbox refuses to compile: no line of the task would run."""

import ast
from collections.abc import Iterator
from types import EllipsisType

import msgspec

from sequential.runtimes.sandbox.lint_source import Problem, Scope, Source


class Refused(msgspec.Struct, frozen=True):
    """A construct the sandbox does not know. `heard_as` is how its compiler speaks of it."""

    message: str
    instead: str
    heard_as: str = ""


YIELD = Refused(
    "the sandbox has no generators (yield)",
    "collect the values in a list and return it",
    "yield",
)
DELETE = Refused(
    "the sandbox has no `del`",
    "for a name `x = None`, for a key `d.pop(key)`, for an attribute `o.attribute = None`",
    "'del' statement",
)
ASYNC_COMPREHENSION = Refused(
    "the sandbox has no asynchronous comprehensions",
    "a plain comprehension with `await` in it: `[await f(x) for x in xs]`",
    "async comprehensions",
)
TYPE_ALIAS = Refused(
    "the sandbox has no `type` statement", "a plain assignment: `Name = ...`", "type aliases"
)
TEMPLATE = Refused("the sandbox has no t-strings", 'an f-string: `f"..."`', "t-strings")
TRY_STAR = Refused("the sandbox has no `except*`", "a plain `except`", "exception groups")
ASYNC_WITH = Refused(
    "the sandbox has no `async with`",
    "for HTTP, `response = await fetch(url)` needs no session; else a plain `with`",
    "async context managers",
)
ASYNC_FOR = Refused(
    "the sandbox has no `async for`", "a plain `for` with `await` in its body", "async for loops"
)
WILDCARD = Refused(
    "`import *` is not possible in the sandbox",
    "name what you need: `from module import a, b`",
    "Wildcard imports",
)
METHOD_DECORATOR = Refused(
    "the sandbox has no decorators on methods (@property, @staticmethod, ...)",
    "a plain method, or a function outside of the class",
    "method decorators",
)
CLASS_TARGET = Refused(
    "a class can only assign to one plain name at a time here",
    "`name = value`, one line for each name",
    "complex class variable targets",
)
CLASS_BODY = Refused(
    "a class can only hold methods and plain assignments here",
    "move this out of the class",
    "class bodies containing anything other",
)
INHERITANCE = Refused(
    "classes cannot inherit in the sandbox",
    "a plain class that holds the other one in an attribute",
    "class inheritance",
)
CAPTURED = Refused(
    "this member of the class hides a variable of the function around it, which the sandbox "
    "cannot compile",
    "rename the member or the variable",
    "shadows a captured variable",
)
MATRIX = Refused("the sandbox has no `@=`", "`x = ...`", "augmented assignment (@=)")
COMPREHENSION_TARGET = Refused(
    "a comprehension can only assign to plain names here",
    "a plain name after `for`",
    "comprehension target must be a name",
)
BY_NODE = {
    "AsyncFor": ASYNC_FOR,
    "AsyncWith": ASYNC_WITH,
    "Delete": DELETE,
    "TemplateStr": TEMPLATE,
    "TryStar": TRY_STAR,
    "TypeAlias": TYPE_ALIAS,
    "Yield": YIELD,
    "YieldFrom": YIELD,
}
REFUSED = (
    *BY_NODE.values(), ASYNC_COMPREHENSION, CAPTURED, CLASS_BODY, CLASS_TARGET,
    COMPREHENSION_TARGET, INHERITANCE, MATRIX, METHOD_DECORATOR, WILDCARD,
)  # fmt: skip
# What to write instead of a base class, by its name.
BASES = {
    "object": "`class {name}:`, it means the same",
    "ABC": "a plain class; the functions that use it need no base class",
    "Enum": 'constants: `RED = "red"`',
    "IntEnum": "constants: `LOW = 1`",
    "StrEnum": 'constants: `RED = "red"`',
    "NamedTuple": '`{name} = namedtuple("{name}", "first second")` from collections',
    "Protocol": "no class at all, leave the annotation out",
    "TypedDict": "`{name} = dict`",
    "BaseModel": "a class with @dataclass",
    "Generic": "`class {name}:`",
}
ALIAS_OF_ERROR = "an alias, `{name} = RuntimeError`: it can be raised and caught like your own"


def unsupported_nodes(source: Source) -> Iterator[Problem]:
    for kind, refused in BY_NODE.items():
        if node_type := getattr(ast, kind, None):
            for node in source.nodes(node_type):
                yield source.problem(node, refused.message, refused.instead)


def comprehensions(source: Source) -> Iterator[Problem]:
    for part in source.nodes(ast.comprehension):
        if part.is_async:
            yield _refuse(source, source.parents[part], ASYNC_COMPREHENSION)
        if any(isinstance(one, ast.Attribute | ast.Subscript) for one in _targets(part.target)):
            yield _refuse(source, part.target, COMPREHENSION_TARGET)


def operators(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.AugAssign):
        if isinstance(node.op, ast.MatMult):
            yield _refuse(source, node, MATRIX)


def wildcards(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.ImportFrom):
        if any(alias.name == "*" for alias in node.names):
            yield _refuse(source, node, WILDCARD)


def inheritance(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.ClassDef):
        if not node.bases and not node.keywords:
            continue
        base = source.text(node.bases[0]) if node.bases else ""
        last = base.partition("[")[0].rpartition(".")[2]
        instead = BASES.get(last, INHERITANCE.instead)
        if last.endswith(("Error", "Exception", "Warning", "Exit")):
            instead = ALIAS_OF_ERROR
        message = INHERITANCE.message if base != "object" else "a class takes no base here"
        yield source.problem(
            node, f"{message}: class {node.name}({base})", instead.format(name=node.name)
        )


def class_bodies(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.ClassDef):
        for statement in node.body:
            yield from _class_statement(source, statement)


def _class_statement(source: Source, statement: ast.stmt) -> Iterator[Problem]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            for decorator in statement.decorator_list:
                yield _refuse(source, decorator, METHOD_DECORATOR)
        case ast.Assign(targets=[ast.Name()]) | ast.AnnAssign(target=ast.Name()) | ast.Pass():
            for walrus in ast.walk(statement):
                if isinstance(walrus, ast.NamedExpr) and source.scopes[walrus].kind == "class":
                    yield _refuse(source, walrus, CLASS_BODY)
        case ast.Assign() | ast.AnnAssign():
            yield _refuse(source, statement, CLASS_TARGET)
        case ast.Expr(value=ast.Constant(value=str() | EllipsisType())):
            pass
        case ast.Delete():
            pass  # reported as such
        case _:
            yield _refuse(source, statement, CLASS_BODY)


def captured_members(source: Source) -> Iterator[Problem]:
    """A member with the name of a variable that the class takes from the function around it."""
    for node in source.nodes(ast.ClassDef):
        outer = source.scopes[node]
        if outer.kind != "function" or not node.body:
            continue
        inner = source.scopes[node.body[0]]
        for name, bindings in inner.bindings.items():
            home = outer.find(name)
            if home is None or home.kind != "function":
                continue
            if any(_inside(source.scopes[load], inner) for load in source.loads(home, name)):
                yield _refuse(source, bindings[0].node, CAPTURED)


def await_in_plain_function(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.Await):
        function = source.function_around(node)
        if isinstance(function, ast.FunctionDef):
            yield source.problem(
                node,
                f"`await` in {function.name}(), which is not an async function",
                f"`async def {function.name}(...)`, and `await {function.name}(...)` to call it",
            )
        elif isinstance(function, ast.Lambda):
            yield source.problem(node, "`await` in a lambda", "an `async def` function with a name")


def return_outside_function(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.Return):
        if source.scopes[node].kind != "function":
            yield source.problem(
                node,
                "`return` outside of a function",
                "move the code into the function that the task starts with",
            )


def _targets(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Tuple | ast.List):
        for one in node.elts:
            yield from _targets(one)
    else:
        yield node.value if isinstance(node, ast.Starred) else node


def _inside(scope: Scope | None, outer: Scope) -> bool:
    while scope is not None and scope is not outer:
        scope = scope.parent
    return scope is outer


def _refuse(source: Source, node: ast.AST, refused: Refused) -> Problem:
    return source.problem(node, refused.message, refused.instead)


RULES = (
    unsupported_nodes,
    comprehensions,
    operators,
    wildcards,
    inheritance,
    class_bodies,
    captured_members,
    await_in_plain_function,
    return_outside_function,
)
