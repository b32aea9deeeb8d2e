"""Queries of the service "supabase": steps such as `from`, `select`, `eq`, checked and applied.

A step is one method of Supabase's client with its arguments. Only those listed here exist, in the
spelling of JavaScript or Python, and what they may reach is what the operator has listed: the
tables at the beginning, and those that a `select` takes in beside them.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from sequential.services.base import CallError

if TYPE_CHECKING:
    from postgrest import AsyncPostgrestClient

LONGEST = 50  # steps of a query
EVERYTHING = "*"
_OURS = "sequential_call"  # the function of a store that may lie in the same project

_COUNTS = frozenset({"exact", "planned", "estimated"})
_RETURNING = frozenset({"minimal", "representation"})
_FOREIGN = {"foreign_table": "foreign_table", "referenced_table": "foreign_table"}
_WRITTEN = {name: name for name in ("count", "returning", "default_to_null")}
# The steps that begin what is done to a table, with their options by our names and the client's.
_VERBS: dict[str, dict[str, str]] = {
    "select": {"count": "count", "head": "head"},
    "insert": _WRITTEN,
    "upsert": {**_WRITTEN, "on_conflict": "on_conflict", "ignore_duplicates": "ignore_duplicates"},
    "update": {"count": "count", "returning": "returning"},
    "delete": {"count": "count", "returning": "returning"},
}
_FILTERS = frozenset(
    "eq neq gt gte lt lte like ilike is_ in_ contains contained_by overlaps range_gt range_gte "
    "range_lt range_lte range_adjacent text_search match filter not_ or_".split()
)
_MODIFIERS: dict[str, dict[str, str]] = {
    "order": {"ascending": "ascending", "desc": "desc", "nulls_first": "nullsfirst", **_FOREIGN},
    "limit": _FOREIGN,
    "range": _FOREIGN,
    "offset": {},
    "single": {},
    "maybe_single": {},
    "or_": {"foreign_table": "reference_table", "referenced_table": "reference_table"},
    "rpc": {"count": "count", "head": "head", "get": "get"},
}
_OPERATORS = frozenset(
    "eq neq gt gte lt lte like ilike match imatch is in cs cd ov sl sr nxl nxr adj "
    "fts plfts phfts wfts".split()
)
_KNOWN = sorted({"from", "table", "rpc", *_VERBS, *_FILTERS, *_MODIFIERS})
# Names in the query of the URL that mean something else than a column.
_RESERVED = frozenset({"select", "order", "limit", "offset", "on_conflict", "columns", "and", "or"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")
_AGGREGATE = re.compile(r"(.*\.)?(count|sum|avg|min|max)\Z")


class Rules(msgspec.Struct, frozen=True):
    """The tables and functions that tasks may use; "*" stands for all there are."""

    tables: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()

    def check_table(self, name: Any) -> str:
        """The name of a table that may be used."""
        return _permitted("table", name, self.tables, "SUPABASE_TABLES")

    def check_function(self, name: Any) -> str:
        """The name of a function that may be called."""
        if name == _OURS and name not in self.functions:
            refuse(f"the function {name} belongs to the engine's own store")
        return _permitted("function", name, self.functions, "SUPABASE_FUNCTIONS")

    def check_columns(self, columns: Any) -> str:
        """What is selected, with no other tables taken in than those that may be used."""
        if not isinstance(columns, str):
            invalid("select takes columns as text")
        text = "".join(columns.split())
        if EVERYTHING not in self.tables:
            for found in re.finditer(r"\(", text):
                before = re.split(r"[,()]", text[: found.start()])[-1]
                if text[found.end() : found.end() + 1] == ")" and _AGGREGATE.match(before):
                    continue
                self.check_table(before.rpartition(":")[2].partition("!")[0].strip('."'))
        return columns


class Query(msgspec.Struct, frozen=True):
    """A query that can be sent. `builder` is the client's own."""

    builder: Any
    name: str  # for messages, as in `table.update tickets`
    is_read: bool


class Step(msgspec.Struct, frozen=True):
    """A method of the client in its Python spelling, `in_` for `in`."""

    name: str
    args: tuple[Any, ...]


def steps_of(chain: Any) -> list[Step]:
    """The steps of a chain as it is sent: `[{"property": "from", "args": ["tickets"]}, ...]`."""
    if not isinstance(chain, list | tuple) or not 0 < len(chain) <= LONGEST:
        invalid(f"a chain is a list of 1 to {LONGEST} steps")
    steps = []
    for sent in chain:
        if not isinstance(sent, Mapping) or not isinstance(sent.get("property"), str):
            invalid('a step is an object such as {"property": "eq", "args": ["id", 1]}')
        args = sent.get("args") or []
        if not isinstance(args, list | tuple):
            invalid(f"the args of {sent['property']} must be a list")
        steps.append(Step(_spelled(sent["property"]), tuple(args)))
    return steps


def filter_step(column: str, operator: str, value: Any) -> Step:
    """One filter of a column, the operator in any of its spellings: `gte`, `in`, `contains`."""
    name = _spelled(operator)
    if name not in _FILTERS or name in ("match", "filter", "not_", "or_"):
        invalid(f"{operator!r} is no operator: use one of eq, neq, gt, gte, lt, lte, like, in, ...")
    return Step(name, (column, value))


def query_of(client: "AsyncPostgrestClient", steps: Sequence[Step], rules: Rules) -> Query:
    """The query that the steps mean; `CallError` for one that is unknown or not permitted."""
    first, *others = steps
    if first.name == "rpc":
        function, params = rules.check_function(_first(first)), _params(first)
        _, options = _options(first, _MODIFIERS["rpc"], from_=2)
        name, is_read = f"rpc {function}", bool(options.get("get") or options.get("head"))
        if is_read and (clash := _RESERVED & params.keys()):  # they would go into the URL
            invalid(f"a parameter {min(clash)!r} cannot be sent with get: leave get out")
        builder: Any = client.rpc(function, params, **options)
    else:
        if first.name not in ("from_", "table"):
            invalid(f"a chain begins with from or rpc, not with {first.name}")
        table = rules.check_table(_first(first))
        if not others or others[0].name not in _VERBS:
            invalid(f"after from comes one of {', '.join(_VERBS)}")
        verb, *others = others
        builder = _begun(client.from_(table), verb, rules)
        name, is_read = f"table.{verb.name} {table}", verb.name == "select"
        if verb.name in ("update", "delete") and not any(map(_is_filter, others)):
            invalid(f"{verb.name} without a filter would change every row")
    for step in others:
        builder = _applied(builder, step, rules)
    return Query(builder, name, is_read)


def invalid(told: str) -> NoReturn:
    """The query makes no sense."""
    raise CallError("ValueError", f"supabase: {told}", code="invalid_call")


def refuse(told: str) -> NoReturn:
    """The query is not for tasks."""
    raise CallError("PermissionError", f"supabase: {told}", code="refused")


def _begun(table: Any, verb: Step, rules: Rules) -> Any:
    args, options = _options(verb, _VERBS[verb.name], from_=0 if verb.name == "delete" else 1)
    if verb.name == "select":
        return table.select(*(rules.check_columns(one) for one in args or ("*",)), **options)
    if verb.name == "delete":
        if args:
            invalid("delete takes no rows: what is deleted is said by filters")
        return table.delete(**options)
    if len(args) != 1 or not isinstance(args[0], dict | list):
        invalid(f"{verb.name} takes one object, or a list of them")
    return getattr(table, verb.name)(args[0], **options)


def _applied(builder: Any, step: Step, rules: Rules) -> Any:
    name, args = step.name, step.args
    options: dict[str, Any] = {}
    if name in _MODIFIERS and name != "rpc":
        args, options = _options(step, _MODIFIERS[name], from_=1)
        if name == "order" and "ascending" in options:
            options["desc"] = not options.pop("ascending")
    elif name == "select":
        args = tuple(rules.check_columns(one) for one in args or ("*",))
    elif name not in _FILTERS:
        invalid(f"{name} cannot stand here")
    if name == "not_" and not args:
        return builder.not_  # of the step that follows
    if name == "not_":
        builder, name = builder.not_, "filter"
    if name in _FILTERS and name != "or_":
        _check_filter(name, args)
    if name == "filter":
        args = (args[0], args[1], _text(args[2]))
    try:
        return getattr(builder, name)(*args, **options)
    except AttributeError:
        invalid(f"{name} cannot stand here")
    except (TypeError, ValueError) as error:
        invalid(f"{name}: {str(error).rpartition('() ')[2]}")


def _check_filter(name: str, args: Sequence[Any]) -> None:
    columns = list(args[0]) if name == "match" and args and isinstance(args[0], dict) else args[:1]
    for column in columns:
        if not isinstance(column, str) or not column or column in _RESERVED:
            invalid(f"{name}: {column!r} cannot be the name of a column")
    if name == "filter" and (len(args) != 3 or args[1] not in _OPERATORS):
        invalid(f"filter takes a column, a value, and between them one of {_list(_OPERATORS)}")


def _is_filter(step: Step) -> bool:
    return step.name in _FILTERS and bool(step.args)


def _options(
    step: Step, known: Mapping[str, str], from_: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a step, and the options that come as an object behind them."""
    args = step.args
    if len(args) <= from_ or not isinstance(args[-1], dict):
        return args, {}
    options: dict[str, Any] = {}
    for key, value in args[-1].items():
        name = _snake(key)
        if name not in known:
            invalid(f"{step.name} has no option {key!r}; it has {_list(known) or 'none'}")
        # These become parts of a header.
        if name == "count" and value not in _COUNTS:
            invalid(f"count is one of {_list(_COUNTS)}")
        if name == "returning" and value not in _RETURNING:
            invalid(f"returning is one of {_list(_RETURNING)}")
        options[known[name]] = value
    return args[:-1], options


def _params(step: Step) -> dict[str, Any]:
    params = step.args[1] if len(step.args) > 1 else {}
    if not isinstance(params, dict):
        invalid("rpc takes the name of a function, and its parameters as an object")
    return params


def _first(step: Step) -> Any:
    return step.args[0] if step.args else None


def _permitted(kind: str, name: Any, listed: frozenset[str], setting: str) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        invalid(f"{name!r} cannot be the name of a {kind}")
    if EVERYTHING not in listed and name not in listed:
        shown = _list(listed) or f"no {kind}"
        refuse(f"the {kind} {name!r} is not open to tasks ({setting} lists {shown})")
    return name


def _spelled(name: str) -> str:
    spelled = _snake(name)
    if spelled in ("from", "in", "is", "or", "not"):
        spelled += "_"
    if spelled not in ("from_", "table", "rpc") and not (
        spelled in _VERBS or spelled in _FILTERS or spelled in _MODIFIERS
    ):
        close = difflib.get_close_matches(spelled, _KNOWN, n=1)
        invalid(f"there is no step {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    return spelled


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _list(names: Any) -> str:
    return ", ".join(sorted(names))
