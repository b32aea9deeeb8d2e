"""Firestore's messages, made from plain values and turned back into them.

The raw protobuf messages are used: they are several times as fast as the library's wrappers.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from google.cloud.firestore_v1.types import firestore, query, write

Value = str | bytes | None | list[str]
NAME = "__name__"  # the field that every document has: its name
_OPERATORS = {"<": 1, "<=": 2, ">": 3, ">=": 4, "==": 5, "contains": 7, "in": 8}
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AND, _ASCENDING, _DESCENDING = 1, 1, 2


class Found(NamedTuple):
    """A document: its full name, its fields, and the version that a later write may insist on."""

    name: str
    fields: dict[str, Value]
    version: Any

    @property
    def id(self) -> str:
        return self.name.rpartition("/")[2]


class Condition(NamedTuple):
    """A field compared with a value; for `NAME` the value is a document's full name."""

    field: str
    operator: str  # < <= > >= == contains in
    value: Value


ANY, MISSING, EXISTING = "any", "missing", "existing"  # versions that a write may ask for


def _path(field: str) -> str:
    """A field's name as paths spell it."""
    return field if _PLAIN.fullmatch(field) else f"`{field}`"


def put(name: str, fields: Mapping[str, Value], version: Any = ANY, *, merge: bool = False) -> Any:
    """Write a document, or only these fields of it, if it has this version now."""
    message = write.Write.pb()()
    message.update.name = name
    for field, value in fields.items():
        _set(message.update.fields[field], value)
    if merge:
        message.update_mask.field_paths.extend(_path(field) for field in sorted(fields))
    _insist(message, version)
    return message


def delete(name: str, version: Any = ANY) -> Any:
    """Remove a document, if it has this version now."""
    message = write.Write.pb()()
    message.delete = name
    _insist(message, version)
    return message


def _insist(message: Any, version: Any) -> None:
    if version is ANY:
        return
    if version in (MISSING, EXISTING):
        message.current_document.exists = version == EXISTING
    else:
        message.current_document.update_time.CopyFrom(version)


def found(message: Any) -> Found:
    fields = {name: _get(value) for name, value in message.fields.items()}
    return Found(message.name, fields, message.update_time)


def get_request(root: str, names: Iterable[str], fields: Sequence[str] | None) -> Any:
    request = firestore.BatchGetDocumentsRequest.pb()(database=root, documents=names)
    if fields is not None:
        request.mask.field_paths.extend(_path(field) for field in fields)
    return request


def commit_request(root: str, writes: Iterable[Any]) -> Any:
    return firestore.CommitRequest.pb()(database=root, writes=writes)


def query_request(
    parent: str,
    collection: str,
    where: Sequence[Condition],
    *,
    order: str,
    descending: bool,
    behind: Found | str | None,
    limit: int | None,
    fields: Sequence[str] | None,
) -> Any:
    structured = query.StructuredQuery.pb()()
    structured.from_.add().collection_id = collection
    if where:
        structured.where.composite_filter.op = _AND
    for condition in where:
        one = structured.where.composite_filter.filters.add().field_filter
        one.field.field_path = _path(condition.field)
        one.op = _OPERATORS[condition.operator]
        if condition.field == NAME:
            one.value.reference_value = condition.value
        else:
            _set(one.value, condition.value)
    for path in dict.fromkeys([*([order] if order else []), NAME]):
        by = structured.order_by.add()
        by.field.field_path = _path(path)
        by.direction = _DESCENDING if descending else _ASCENDING
    if isinstance(behind, str):
        structured.start_at.values.add().reference_value = behind
    elif behind is not None:
        if order:
            _set(structured.start_at.values.add(), behind.fields[order])
        structured.start_at.values.add().reference_value = behind.name
    if limit is not None:
        structured.limit.value = limit
    if fields is not None:
        for path in fields or [NAME]:
            structured.select.fields.add().field_path = _path(path)
    request = firestore.RunQueryRequest.pb()(parent=parent)
    request.structured_query.CopyFrom(structured)
    return request


def _set(message: Any, value: Value) -> None:
    match value:
        case None:
            message.null_value = 0
        case bytes():
            message.bytes_value = value
        case str():
            message.string_value = value
        case _:
            message.array_value.SetInParent()
            for item in value:
                message.array_value.values.add().string_value = item


def _get(message: Any) -> Value:
    kind = message.WhichOneof("value_type")
    if kind == "array_value":
        return [item.string_value for item in message.array_value.values]
    if kind == "null_value":
        return None
    content: Value = getattr(message, kind)
    return content
