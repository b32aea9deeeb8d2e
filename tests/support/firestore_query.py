"""Queries of the Firestore that tests use: which documents match, in which order, and which index
the real service would ask for.

All messages are raw protobuf messages of the client library.
"""

import functools
import re
from collections.abc import Iterable
from typing import Any

import grpc  # type: ignore[import-untyped]

ORDER = {
    "null_value": 0,
    "boolean_value": 1,
    "integer_value": 2,
    "double_value": 2,
    "timestamp_value": 3,
    "string_value": 4,
    "bytes_value": 5,
    "reference_value": 6,
    "array_value": 8,
    "map_value": 9,
}
NAME = "__name__"
MOST_DISJUNCTIONS = 30
EQUAL, IN, ARRAY_CONTAINS = 5, 8, 7
RANGES = {1: "<", 2: "<=", 3: ">", 4: ">="}


class Refused(Exception):
    """What the service answers instead of doing it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def refused(message: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def sort_key(value: Any) -> tuple[int, Any]:
    """What a value is sorted by: first its type, then itself; text by its UTF-8 bytes."""
    kind = value.WhichOneof("value_type")
    content: Any = getattr(value, kind)
    match kind:
        case "null_value":
            content = 0
        case "timestamp_value":
            content = (content.seconds, content.nanos)
        case "string_value":
            content = content.encode()
        case "reference_value":
            content = [part.encode() for part in content.split("/")]
        case "array_value":
            content = [sort_key(item) for item in content.values]
        case "map_value":
            content = [(name, sort_key(content.fields[name])) for name in sorted(content.fields)]
    return ORDER[kind], content


def field_name(path: str) -> str:
    """The field that a path means; only those at the top of a document are known here."""
    if path.startswith("`") and path.endswith("`"):
        return path[1:-1]
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", path):
        raise refused(f"the path {path!r} must be quoted")
    return path


def field_key(document: Any, path: str) -> tuple[int, Any] | None:
    """The sort key of a document's field; None when it has no such field."""
    if path == NAME:
        return ORDER["reference_value"], [part.encode() for part in document.name.split("/")]
    name = field_name(path)
    return sort_key(document.fields[name]) if name in document.fields else None


def conditions(where: Any) -> list[Any]:
    """The field filters of a query that is a conjunction."""
    kind = where.WhichOneof("filter_type")
    if kind is None:
        return []
    if kind == "field_filter":
        return [where.field_filter]
    if kind == "composite_filter" and where.composite_filter.op == 1:
        return [one for part in where.composite_filter.filters for one in conditions(part)]
    raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"this test server knows no {kind}")


def matches(document: Any, condition: Any) -> bool:
    mine = field_key(document, condition.field.field_path)
    if mine is None:
        return False
    if condition.op == IN:
        return any(mine == sort_key(item) for item in condition.value.array_value.values)
    wanted = sort_key(condition.value)
    if condition.op == EQUAL:
        return mine == wanted and wanted[0] != ORDER["null_value"]
    if condition.op == ARRAY_CONTAINS:
        return mine[0] == ORDER["array_value"] and wanted in mine[1]
    if mine[0] != wanted[0]:  # a range holds values of one type
        return False
    results = {"<": mine < wanted, "<=": mine <= wanted, ">": mine > wanted, ">=": mine >= wanted}
    return results[RANGES[condition.op]]


def check(query: Any, indexes: Iterable[tuple[str, ...]], unindexed: Iterable[str]) -> None:
    """Refuse what the service refuses: too many alternatives, and what no index answers.

    Each field has an index of its own, except for the `unindexed` ones. Equalities on several
    fields are answered by these together; an equality with a range or an order needs one more.
    """
    found = conditions(query.where)
    alternatives = 1
    for one in found:
        if one.op == IN:
            alternatives *= len(one.value.array_value.values)
            if not one.value.array_value.values:
                raise refused("'IN' requires a non-empty ArrayValue.")
    if alternatives > MOST_DISJUNCTIONS:
        raise refused(f"the query has more than {MOST_DISJUNCTIONS} disjunctions")
    equal = {one.field.field_path for one in found if one.op in (EQUAL, IN, ARRAY_CONTAINS)}
    ranged = {one.field.field_path for one in found if one.op in RANGES} - {NAME}
    ordered = [one.field.field_path for one in query.order_by if one.field.field_path != NAME]
    others = list(dict.fromkeys([*ranged, *ordered]))
    if exempt := (equal | ranged | {*ordered}) & {*unindexed}:
        raise _no_index(f"the fields {sorted(exempt)} are exempt from indexing")
    if ranged and ordered and ordered[0] not in ranged:
        raise _no_index("the range is not on the first field of the order")
    if not ordered and any(one.direction == 2 for one in query.order_by):
        raise _no_index("the order is descending by name")
    if others and (equal - {*others} or len(others) > 1):
        wanted = (*sorted(equal - {*others}), *others)
        if wanted not in {*indexes}:
            raise _no_index(f"there is no index {wanted}")


def _no_index(why: str) -> Refused:
    text = f"The query requires an index. You can create it here: https://example.test ({why})"
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, text)


def run(query: Any, documents: Iterable[Any]) -> list[Any]:
    """The documents of a collection that a query finds, in its order."""
    found = conditions(query.where)
    order: Any = [(one.field.field_path, -1 if one.direction == 2 else 1) for one in query.order_by]
    if not order:
        ranged = [one.field.field_path for one in found if one.op in RANGES]
        order = [(ranged[0], 1)] if ranged else []
    if NAME not in {path for path, _ in order}:
        order.append((NAME, order[-1][1] if order else 1))

    def keys(document: Any) -> list[Any]:
        return [field_key(document, path) for path, _ in order]

    def compare(one: list[Any], other: list[Any]) -> int:
        for mine, theirs, (_, direction) in zip(one, other, order, strict=False):
            if mine != theirs:
                return int(direction if mine > theirs else -direction)
        return 0

    def compare_pairs(one: Any, other: Any) -> int:
        return compare(one[0], other[0])

    rows = [d for d in documents if all(matches(d, one) for one in found)]
    pairs: list[Any] = [(keys(document), document) for document in rows]
    pairs = [pair for pair in pairs if None not in pair[0]]
    pairs.sort(key=functools.cmp_to_key(compare_pairs))
    if query.HasField("start_at"):
        cursor = [sort_key(value) for value in query.start_at.values]
        least = 0 if query.start_at.before else 1
        pairs = [pair for pair in pairs if compare(pair[0], cursor) >= least]
    found_rows = [document for _, document in pairs]
    return found_rows[: query.limit.value] if query.HasField("limit") else found_rows
