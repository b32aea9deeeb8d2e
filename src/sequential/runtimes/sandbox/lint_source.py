"""A task's source as the rules read it: every node with its parent, every name with its meaning.

`Source.origin` tells what an expression stands for, whatever it was imported as: with
`import asyncio as aio`, `aio.sleep` is "asyncio.sleep"; builtins and the names a task starts with
are called by their own names, methods of services "services.<service>.<method>".
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeVar, overload

import msgspec

from sequential.runtimes.sandbox.lint_types import RESULTS, literal_type
from sequential.runtimes.sandbox.stubs import TASK_MODULE, TASK_NAMES, Services
from sequential.runtimes.sandbox.vm_names import vm_names

Node = TypeVar("Node", bound=ast.AST)
Other = TypeVar("Other", bound=ast.AST)
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Child = tuple[ast.AST, "Scope"]
LONGEST_SHOWN = 50
_GIVEN = vm_names().builtins | TASK_NAMES


class Problem(msgspec.Struct, frozen=True, order=True):
    """What is wrong at a place of the source, and what to write there instead."""

    line: int
    column: int
    message: str
    instead: str = ""
    severity: Literal["error", "warning"] = "error"


def lines_of(text: str) -> list[str]:
    """The lines as Python counts them, which is not how `str.splitlines` does."""
    return re.split(r"\r\n|\r|\n", text)


class Binding(msgspec.Struct, frozen=True):
    """One place that gives a name a value. `origin` is set for imports, `value` for assignments."""

    kind: Literal["assign", "def", "class", "import", "parameter", "exception", "other"]
    node: ast.AST
    value: ast.expr | None = None
    origin: str = ""


class Scope:
    """Where names live: the module, a class, a function, or a comprehension."""

    def __init__(self, node: ast.AST, parent: "Scope | None", kind: str) -> None:
        self.node = node
        self.parent = parent
        self.kind = kind
        self.bindings: dict[str, list[Binding]] = {}
        self.redirected: dict[str, str] = {}  # names declared global or nonlocal

    def bind(self, name: str, binding: Binding) -> None:
        self.bindings.setdefault(name, []).append(binding)

    def redirect(self) -> None:
        """Move what is bound to names declared global or nonlocal to where they live."""
        for name in self.redirected:
            for binding in self.bindings.pop(name, []):
                self._home(name).bind(name, binding)

    def find(self, name: str) -> "Scope | None":
        """The scope whose name this is; None: nowhere in the file."""
        scope: Scope | None = self._home(name)
        is_direct = True  # what a class binds is seen in its own body only
        while scope is not None:
            if name in scope.bindings and (scope.kind != "class" or is_direct):
                return scope
            is_direct = is_direct and scope.kind == "comprehension"
            scope = scope.parent
        return None

    def _home(self, name: str) -> "Scope":
        declared = self.redirected.get(name)
        if declared is None:
            return self
        scope = self
        if declared == "global":
            while scope.parent is not None:
                scope = scope.parent
            return scope
        while scope.parent is not None:
            scope = scope.parent
            if scope.kind == "function" and name in scope.bindings:
                break
        return scope


class Source:
    """A parsed task with the questions that the rules ask."""

    def __init__(self, text: str, tree: ast.Module, services: Services) -> None:
        self.lines = lines_of(text)
        self.tree = tree
        self.services = services
        self.parents: dict[ast.AST, ast.AST] = {}
        self.scopes: dict[ast.AST, Scope] = {}
        self.module = Scope(tree, None, "module")
        self.annotations: set[ast.AST] = set()
        self._by_type: dict[type[ast.AST], list[ast.AST]] = defaultdict(list)
        self._origins: dict[ast.AST, str] = {}
        self._types: dict[ast.AST, str] = {}
        self._loads: dict[tuple[Scope | None, str], list[ast.Name]] = defaultdict(list)
        self._read()
        for scope in {*self.scopes.values()}:
            scope.redirect()
        for node in self.nodes(ast.Name):
            if isinstance(node.ctx, ast.Load):
                self._loads[self.scopes[node].find(node.id), node.id].append(node)
        self.members = frozenset(self._members())

    def problem(
        self,
        node: ast.AST,
        message: str,
        instead: str = "",
        severity: Literal["error", "warning"] = "error",
    ) -> Problem:
        """A problem at the beginning of a node."""
        line = getattr(node, "lineno", 1)
        offset = getattr(node, "col_offset", 0)
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        column = len(text.encode("utf-8", "replace")[:offset].decode("utf-8", "replace")) + 1
        return Problem(line, column, message, instead, severity)

    def text(self, node: ast.AST) -> str:
        """An expression as it is shown in a message."""
        try:
            text = ast.unparse(node)
        except RecursionError:
            return "..."
        return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."

    @overload
    def nodes(self, first: type[Node], /) -> Iterator[Node]: ...

    @overload
    def nodes(self, first: type[Node], second: type[Other], /) -> Iterator[Node | Other]: ...

    def nodes(self, *types: type[ast.AST]) -> Iterator[ast.AST]:
        for one in types:
            yield from self._by_type[one]

    def loads(self, scope: Scope | None, name: str) -> list[ast.Name]:
        """Every place that reads this name of this scope; None: names that no scope defines."""
        return self._loads[scope, name]

    def undefined(self) -> Iterator[ast.Name]:
        for (scope, _), names in self._loads.items():
            if scope is None:
                yield from names

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around a node, from the inside out."""
        parent = self.parents.get(node)
        while parent is not None:
            yield parent
            parent = self.parents.get(parent)

    def function_around(self, node: ast.AST) -> FunctionNode | ast.Lambda | None:
        for one in self.above(node):
            if isinstance(one, FunctionNode | ast.Lambda):
                return one
        return None

    def bindings(self, node: ast.AST) -> list[Binding]:
        """What gives a name its value; empty when it comes from outside of the file."""
        if not isinstance(node, ast.Name):
            return []
        scope = self.scopes[node].find(node.id)
        return scope.bindings[node.id] if scope else []

    def function(self, node: ast.AST) -> FunctionNode | None:
        """The function of this file that an expression names."""
        found = self.bindings(node)
        if len(found) == 1 and isinstance(found[0].node, FunctionNode):
            return found[0].node
        return None

    def origin(self, node: ast.AST) -> str:
        """What an expression stands for; empty when it is a value of the task's own."""
        if node not in self._origins:
            self._origins[node] = ""  # the answer for names that stand for each other in a circle
            self._origins[node] = self._find_origin(node)
        return self._origins[node]

    def _find_origin(self, node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            owner = self.origin(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        if not isinstance(node, ast.Name):
            return ""
        scope = self.scopes[node].find(node.id)
        if scope is None:
            return node.id if node.id in _GIVEN else ""
        found = {self._origin_of(one) for one in scope.bindings[node.id]}
        return found.pop() if len(found) == 1 else ""

    def _origin_of(self, binding: Binding) -> str:
        if binding.kind == "assign" and isinstance(binding.value, ast.Name | ast.Attribute):
            return self.origin(binding.value)
        return binding.origin

    def type(self, node: ast.AST) -> str:
        """The type of an expression where it is plain to see, as `vm_names.json` calls it."""
        if node not in self._types:
            self._types[node] = ""
            self._types[node] = literal_type(node) or self._find_type(node)
        return self._types[node]

    def _find_type(self, node: ast.AST) -> str:
        match node:
            case ast.Name():
                found = self.bindings(node)
                types = {self.type(one.value) if one.value else "" for one in found}
                return types.pop() if len(types) == 1 else ""
            case ast.Call(func=function):
                return RESULTS.get(self.origin(function), "")
            case ast.Await(value=ast.Call(func=function)):
                return RESULTS.get(f"await {self.origin(function)}", "")
            case ast.BinOp(left=left, op=ast.Div()) if self.type(left) == "Path":
                return "Path"
        return ""

    def _members(self) -> Iterator[str]:
        """Names that objects made by this file have after the dot."""
        for scope in {*self.scopes.values()}:
            if scope.kind == "class":
                yield from scope.bindings
        for attribute in self.nodes(ast.Attribute):
            if isinstance(attribute.ctx, ast.Store):
                yield attribute.attr
        for call in self.nodes(ast.Call):
            if self.origin(call.func) == "collections.namedtuple":
                for text in ast.walk(call):
                    if isinstance(text, ast.Constant) and isinstance(text.value, str):
                        yield from text.value.replace(",", " ").split()

    # Reading: one pass over the tree without recursion, since a long sum is a deep tree.

    def _read(self) -> None:
        todo: list[Child] = [(self.tree, self.module)]
        while todo:
            node, scope = todo.pop()
            self.scopes[node] = scope
            self._by_type[type(node)].append(node)
            for child, inner in self._children(node, scope):
                self.parents[child] = node
                if node in self.annotations:
                    self.annotations.add(child)
                todo.append((child, inner))

    def _children(self, node: ast.AST, scope: Scope) -> Iterable[Child]:
        match node:
            case ast.Constant():
                return ()
            case ast.Name():
                if isinstance(node.ctx, ast.Store):
                    self._assign(node, node.id, scope)
                return ()
            case ast.Attribute():
                return ((node.value, scope),)
            case ast.Call():
                pass  # the last of the frequent ones
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                scope.bind(node.name, Binding("def", node))
                return self._function(node, scope)
            case ast.Lambda():
                inner = Scope(node, scope, "function")
                return [*self._arguments(node.args, scope, inner), (node.body, inner)]
            case ast.ClassDef():
                scope.bind(node.name, Binding("class", node))
                return self._class(node, scope)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                scope = Scope(node, scope, "comprehension")
            case _:
                self._bind(node, scope)
        return [(child, scope) for child in ast.iter_child_nodes(node)]

    def _function(self, node: FunctionNode, scope: Scope) -> Iterator[Child]:
        for decorator in node.decorator_list:
            yield decorator, scope
        scope = self._type_parameters(node, scope)
        inner = Scope(node, scope, "function")
        yield from self._arguments(node.args, scope, inner)
        if node.returns:
            self.annotations.add(node.returns)
            yield node.returns, scope
        self._declared(node.body, inner)
        for statement in node.body:
            yield statement, inner

    def _arguments(self, node: ast.arguments, outer: Scope, inner: Scope) -> Iterator[Child]:
        self.scopes[node] = inner
        for default in (*node.defaults, *node.kw_defaults):
            if default is not None:
                yield default, outer
        every = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
        for argument in every:
            if argument is not None:
                inner.bind(argument.arg, Binding("parameter", argument))
                if argument.annotation:
                    self.annotations.add(argument.annotation)
                    yield argument.annotation, outer

    def _class(self, node: ast.ClassDef, scope: Scope) -> Iterator[Child]:
        for decorator in node.decorator_list:
            yield decorator, scope
        scope = self._type_parameters(node, scope)
        for base in (*node.bases, *node.keywords):
            yield base, scope
        inner = Scope(node, scope, "class")
        for statement in node.body:
            yield statement, inner

    def _type_parameters(self, node: ast.AST, scope: Scope) -> Scope:
        parameters = getattr(node, "type_params", ())
        if parameters:
            scope = Scope(node, scope, "function")
            for one in parameters:
                scope.bind(one.name, Binding("other", one))
        return scope

    def _declared(self, body: Sequence[ast.stmt], scope: Scope) -> None:
        """Note `global` and `nonlocal` before the assignments they are about."""
        todo: list[ast.AST] = list(body)
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Global | ast.Nonlocal):
                kind = "global" if isinstance(node, ast.Global) else "nonlocal"
                scope.redirected.update(dict.fromkeys(node.names, kind))
            elif not isinstance(node, FunctionNode | ast.ClassDef | ast.expr):
                todo += ast.iter_child_nodes(node)

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    origin = alias.name if alias.asname else alias.name.partition(".")[0]
                    name = alias.asname or origin
                    scope.bind(name, Binding("import", node, origin=origin))
            case ast.ImportFrom(names=names):
                for alias in names:
                    origin = f"{node.module}.{alias.name}"
                    if node.module == TASK_MODULE and alias.name in TASK_NAMES:
                        origin = alias.name
                    name = alias.asname or alias.name
                    scope.bind(name, Binding("import", node, origin=origin))
            case ast.ExceptHandler(name=str(name)):
                scope.bind(name, Binding("exception", node))
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                scope.bind(name, Binding("other", node))
            case ast.MatchMapping(rest=str(name)):
                scope.bind(name, Binding("other", node))
            case ast.AnnAssign(annotation=annotation):
                self.annotations.add(annotation)

    def _assign(self, node: ast.Name, name: str, scope: Scope) -> None:
        match self.parents[node]:
            case ast.Assign(targets=[only], value=value) if only is node:
                scope.bind(name, Binding("assign", node, value))
            case ast.AnnAssign(value=ast.expr() as value):
                scope.bind(name, Binding("assign", node, value))
            case ast.NamedExpr(value=value):
                while scope.kind == "comprehension" and scope.parent:
                    scope = scope.parent
                scope.bind(name, Binding("assign", node, value))
            case ast.AnnAssign() if scope.kind != "class":
                pass  # an annotation alone gives a name no value, but a dataclass a field
            case _:
                scope.bind(name, Binding("other", node))
