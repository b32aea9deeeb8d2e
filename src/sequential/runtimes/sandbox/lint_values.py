"""Rules for what stands after a dot: methods taken as values, and methods that are not there."""

import ast
from collections.abc import Iterator
from functools import cache

from sequential.runtimes.sandbox.lint_source import FunctionNode, Problem, Source
from sequential.runtimes.sandbox.vm_names import vm_names

_ISO = '`strftime("%G-%V-%u")`'
_EPOCH = "`datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=t)`"
_PATH = "work with `str(path)`"
_IN_PLACE = "`s -= other`, `s &= other` or `s ^= other`"
# Methods that no type of the sandbox has, under names that hardly mean anything else.
ABSENT = {
    "bit_count": '`bin(n).count("1")`',
    "bit_length": "`len(bin(n)) - 2`",
    "difference_update": _IN_PLACE,
    "format_map": "`text.format(**values)`",
    "from_bytes": "`int(data.hex(), 16)`",
    "fromisocalendar": "`strptime` with a full date",
    "fromordinal": "`date(1, 1, 1) + timedelta(days=n - 1)`",
    "fromtimestamp": _EPOCH,
    "intersection_update": _IN_PLACE,
    "is_integer": "`x == int(x)`",
    "is_relative_to": "`str(path).startswith(...)`",
    "isocalendar": _ISO,
    "maketrans": "`text.replace(old, new)`, once for each",
    "relative_to": "`str(path).removeprefix(...)`",
    "subn": "`sub(...)`, and `len(findall(...))` for the number",
    "symmetric_difference_update": _IN_PLACE,
    "timetuple": "the attributes: `.year`, `.month`, `.day`, ...",
    "to_bytes": '`bytes.fromhex("%04x" % n)`',
    "toordinal": "the difference of two dates: `(a - b).days`",
    "utcfromtimestamp": _EPOCH,
    "utcnow": "`datetime.now(timezone.utc)`",
    "utctimetuple": "the attributes: `.year`, `.month`, `.day`, ...",
}
# And those under names that mean something else on other types.
OF_TYPE = {
    "as_integer_ratio": "arithmetic with `decimal.Decimal`",
    "ctime": '`strftime("%c")`',
    "expandtabs": '`replace("\\t", "    ")`',
    "hex": "`str(x)`",
    "lastgroup": "`groupdict()`",
    "match": "`fnmatch`-like tests with `re`",
    "parents": "`path.parent`, one after the other",
    "today": "`now()`",
    "touch": "a service of the host",
    "translate": "`text.replace(old, new)`, once for each",
    "expanduser": _PATH,
    "home": _PATH,
}
NO_ATTRIBUTES = {
    "__annotations__": "leave it out",
    "__bases__": "leave it out",
    "__closure__": "leave it out",
    "__code__": "leave it out",
    "__dict__": "the attributes by their names, or keep the values in a dict",
    "__func__": "leave it out",
    "__globals__": "leave it out",
    "__module__": "leave it out",
    "__mro__": "leave it out",
    "__qualname__": "a name of your own",
    "__self__": "leave it out",
    "__subclasses__": "leave it out",
    "__wrapped__": "leave it out",
}
OF_FUNCTIONS = {"__name__", "__doc__", "__qualname__", "__module__", "__wrapped__"}
OF_EXCEPTIONS = {"args"}
# Special methods that the sandbox never calls. What is not named here works.
_COMPARE = "`key=lambda x: ...` where things are sorted, or a method of your own"
NEVER_CALLED = {
    **dict.fromkeys(("__lt__", "__le__", "__gt__", "__ge__"), _COMPARE),
    **{
        f"__i{name}__": f"`__{name}__`, which `x {sign}= y` uses as well"
        for name, sign in (
            ("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("floordiv", "//"),
            ("mod", "%"), ("pow", "**"), ("and", "&"), ("or", "|"), ("xor", "^"),
            ("lshift", "<<"), ("rshift", ">>"),
        )
    },
    "__aenter__": "`__enter__` and a plain `with`",
    "__aexit__": "`__exit__` and a plain `with`",
    "__aiter__": "a method that returns a list",
    "__anext__": "a method that returns a list",
    "__await__": "an `async def` method that is called and awaited",
    "__bool__": "a method of your own, called by name",
    "__bytes__": "a method of your own, called by name",
    "__class_getitem__": "leave it out",
    "__complex__": "a method of your own, called by name",
    "__del__": "try/finally, or `__exit__` and `with`",
    "__delattr__": "a method of your own, called by name",
    "__delitem__": "a method of your own, called by name",
    "__format__": "`__str__`, or a method of your own, called by name",
    "__fspath__": "`__str__`",
    "__getattr__": "a method that takes the name: `o.get(name)`",
    "__getattribute__": "a method that takes the name: `o.get(name)`",
    "__init_subclass__": "leave it out: classes cannot inherit",
    "__len__": "a method of your own, called by name",
    "__ne__": "`__eq__`, which `!=` uses as well",
    "__new__": "`__init__`, or a function that makes the object",
    "__reversed__": "a method that returns a list",
    "__set_name__": "leave it out",
    "__setattr__": "a method that takes the name: `o.set(name, value)`",
}  # fmt: skip
HARMLESS = {"__ne__"}
CLASS_METHODS = {
    "combine",
    "cwd",
    "fromhex",
    "fromisoformat",
    "fromkeys",
    "now",
    "strptime",
    "today",
}


@cache
def method_names() -> frozenset[str]:
    """Names of methods of the sandbox's own types."""
    methods: set[str] = set()
    for one in (*vm_names().methods.values(), *vm_names().type_methods.values()):
        methods |= one.methods
    return frozenset(methods)


def methods_as_values(source: Source) -> Iterator[Problem]:
    """`key=str.lower`: methods of builtin types can only be called."""
    for node in source.nodes(ast.Attribute):
        if not isinstance(node.ctx, ast.Load) or _is_called(source, node):
            continue
        if node.attr not in method_names() or node.attr in source.members:
            continue
        if node in source.annotations or _is_own(source, node.value):
            continue
        if type_named(source, node.value) and node.attr not in CLASS_METHODS:
            continue  # reported as a method that is not there
        kind = source.type(node.value)
        if kind in vm_names().methods and node.attr not in vm_names().methods[kind].methods:
            continue
        if not kind and isinstance(source.parents[node], ast.Attribute):
            continue  # a.count.x: an attribute that happens to have such a name
        yield source.problem(
            node,
            f"`{source.text(node)}` can only be called here, not be used as a value",
            _as_lambda(source, node),
        )


def _as_lambda(source: Source, node: ast.Attribute) -> str:
    name = source.text(node)
    return f"`lambda x: {name}(x)`, or call it: `{name}(...)`"


def _is_own(source: Source, node: ast.expr) -> bool:
    """Whether what stands before the dot is a module, a service, or an object of this file."""
    if source.origin(node):
        return not type_named(source, node)
    if isinstance(node, ast.Attribute):
        return node.attr == "headers" and source.type(node.value) == "Response"
    return source.type(node) == "Response"


def _is_called(source: Source, node: ast.expr) -> bool:
    parent = source.parents[node]
    return isinstance(parent, ast.Call) and parent.func is node


def absent_methods(source: Source) -> Iterator[Problem]:
    """Methods that Python has and the sandbox does not; other typos are for the type checker."""
    for node in source.nodes(ast.Attribute):
        if not isinstance(node.ctx, ast.Load) or node in source.annotations:
            continue
        named, kind = type_named(source, node.value), source.type(node.value)
        if named and node.attr in vm_names().type_methods[named].absent:
            yield _absent_of_type(source, node, named)
        elif kind in vm_names().methods and node.attr in vm_names().methods[kind].absent:
            yield _absent(source, node, f"`{kind}` has no `{node.attr}` in the sandbox")
        elif not named and not kind and _is_absent_everywhere(source, node):
            yield _absent(source, node, f"the sandbox has no `.{node.attr}`")


def _is_absent_everywhere(source: Source, node: ast.Attribute) -> bool:
    is_own = bool(source.origin(node)) or node.attr in source.members
    return node.attr in ABSENT and not is_own


def _absent_of_type(source: Source, node: ast.Attribute, named: str) -> Problem:
    if node.attr not in vm_names().methods[named].present:
        return _absent(source, node, f"`{named}` has no `{node.attr}` in the sandbox")
    if _is_called(source, node):
        instead = f"`x.{node.attr}(...)`"
    else:
        instead = f"`lambda x: x.{node.attr}()`"
    return source.problem(
        node, f"`{named}.{node.attr}` does not exist here, only the method of a value", instead
    )


def _absent(source: Source, node: ast.Attribute, message: str) -> Problem:
    instead = ABSENT.get(node.attr) or OF_TYPE.get(node.attr, "")
    return source.problem(node, message, instead)


def type_named(source: Source, node: ast.expr) -> str:
    """The type whose name an expression is, as `vm_names.json` calls it; else empty."""
    origin = source.origin(node)
    module, _, name = origin.rpartition(".")
    if name in vm_names().type_methods and module == _HOMES.get(name, ""):
        return name
    return ""


_HOMES = {
    **dict.fromkeys(("datetime", "date", "time", "timedelta", "timezone"), "datetime"),
    **dict.fromkeys(("Counter", "deque"), "collections"),
    "Decimal": "decimal",
    "Path": "pathlib",
}


def exception_attributes(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.Attribute):
        found = source.bindings(node.value)
        if node.attr in OF_EXCEPTIONS or not found:
            continue
        if all(one.kind == "exception" for one in found):
            name = source.text(node.value)
            instead = f"`str({name})`"
            if node.attr in ("__class__", "__name__"):
                instead = f"`type({name}).__name__`"
            yield source.problem(node, f"an exception has no `{node.attr}` in the sandbox", instead)


def hidden_attributes(source: Source) -> Iterator[Problem]:
    """Attributes of functions, and those with underscores that the sandbox does not have."""
    for node in source.nodes(ast.Attribute):
        function = source.function(node.value)
        is_store = isinstance(node.ctx, ast.Store)
        if function and (is_store or node.attr in OF_FUNCTIONS):
            yield source.problem(
                node,
                f"functions have no attributes here: {source.text(node)}",
                "a variable, or a dict" if is_store else "write the name as a text",
            )
        elif node.attr in NO_ATTRIBUTES and node.attr not in source.members:
            yield source.problem(
                node, f"the sandbox has no `{node.attr}`", NO_ATTRIBUTES[node.attr]
            )


def special_methods(source: Source) -> Iterator[Problem]:
    for node in source.nodes(ast.ClassDef):
        names = {one.name for one in node.body if isinstance(one, FunctionNode)}
        for method in node.body:
            if isinstance(method, FunctionNode) and method.name in NEVER_CALLED:
                if method.name in HARMLESS and "__eq__" not in names:
                    continue
                yield source.problem(
                    method,
                    f"the sandbox never calls `{method.name}`",
                    NEVER_CALLED[method.name],
                )
        if "__getitem__" in names and "__iter__" not in names:
            yield from _iterated(source, node)


def _iterated(source: Source, node: ast.ClassDef) -> Iterator[Problem]:
    """Loops over instances of a class that only has `__getitem__`."""
    for loop in source.nodes(ast.For, ast.comprehension):
        if isinstance(loop.iter, ast.Call) and isinstance(loop.iter.func, ast.Name):
            found = source.bindings(loop.iter.func)
            if len(found) == 1 and found[0].node is node:
                yield source.problem(
                    loop.iter,
                    f"`{node.name}` has no `__iter__`, so it cannot be looped over here",
                    "a method `__iter__` that returns `iter(a_list)`",
                )


RULES = (
    methods_as_values,
    absent_methods,
    exception_attributes,
    hidden_attributes,
    special_methods,
)
