"""A Firestore in memory, which the real client library talks gRPC to.

It does what our store asks of the service, exactly: commits that are all or nothing, preconditions,
masks, queries with the indexes they need, and the limits. Whatever else is asked for is answered
with UNIMPLEMENTED. A test may look at each request, let it fail, or stop its sender, in `on_call`.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.cloud.firestore_v1.types import document as documents
from google.cloud.firestore_v1.types import firestore
from google.protobuf import timestamp_pb2  # type: ignore[import-untyped]

from support import firestore_query
from support.firestore_query import Refused, refused

MOST_BYTES = 10 << 20  # of a request
MOST_DOCUMENT = 1 << 20
MOST_VALUE = MOST_DOCUMENT - 89
MOST_ID = 1500
INDEXES = Path(__file__).parents[2] / "docs" / "firestore.indexes.json"
_RESERVED = re.compile(r"__.*__\Z", re.DOTALL)
Code = grpc.StatusCode

# Called with the name of the method and its request, before it is done and after it: raising
# `Refused` there is a failure that has, or has not, done something.
OnCall = Callable[[str, Any, bool], None]


def _nobody(method: str, request: Any, done: bool) -> None:
    """Look at nothing."""


class FirestoreServer:
    """Serves at `address` until it is closed. `counts` are reads, writes and deletes, as billed."""

    def __init__(self, documents: dict[str, Any] | None = None, port: int = 0) -> None:
        self.documents: dict[str, Any] = {} if documents is None else documents
        self.on_call: OnCall = _nobody
        self.counts = {"reads": 0, "writes": 0, "deletes": 0}
        self._lock = threading.RLock()
        self._last = 0
        declared = json.loads(INDEXES.read_text()) if INDEXES.exists() else {}
        self._indexes = {
            tuple(field["fieldPath"] for field in index["fields"])
            for index in declared.get("indexes", ())
        }
        self._unindexed = {one["fieldPath"] for one in declared.get("fieldOverrides", ())}
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
        handler = grpc.method_handlers_generic_handler(
            "google.firestore.v1.Firestore", self._handlers()
        )
        self._server.add_generic_rpc_handlers((handler,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()

    def reset_counts(self) -> None:
        self.counts = dict.fromkeys(self.counts, 0)

    # --- the protocol ----------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Any]:
        def handler(method: str, request: Any, answer: Callable[[Any], Any]) -> Any:
            def serve(message: Any, context: Any) -> Any:
                try:
                    if message.ByteSize() > MOST_BYTES:
                        raise refused("Request payload size exceeds the limit: 10485760 bytes.")
                    self.on_call(method, message, False)
                    response = answer(message)
                    self.on_call(method, message, True)
                except Refused as error:
                    context.abort(error.code, error.message)
                return response

            def stream(message: Any, context: Any) -> Iterator[Any]:
                yield from serve(message, context)

            return (
                grpc.unary_unary_rpc_method_handler(serve, *_coding(request))
                if method == "Commit"
                else grpc.unary_stream_rpc_method_handler(stream, *_coding(request))
            )

        return {
            "BatchGetDocuments": handler(
                "BatchGetDocuments", firestore.BatchGetDocumentsRequest, self._get
            ),
            "RunQuery": handler("RunQuery", firestore.RunQueryRequest, self._query),
            "Commit": handler("Commit", firestore.CommitRequest, self._commit),
        }

    def _get(self, request: Any) -> list[Any]:
        answers = []
        with self._lock:
            for name in dict.fromkeys(request.documents):
                _check_name(name)
                answer = firestore.BatchGetDocumentsResponse.pb()()
                answer.read_time.CopyFrom(self._now())
                if (found := self.documents.get(name)) is None:
                    answer.missing = name
                else:
                    mask = request.mask if request.HasField("mask") else None
                    _copy(found, answer.found, mask and mask.field_paths)
                answers.append(answer)
            self.counts["reads"] += len(answers)
        return answers

    def _query(self, request: Any) -> list[Any]:
        query = request.structured_query
        collection = f"{request.parent}/{query.from_[0].collection_id}/"
        answers = []
        with self._lock:
            firestore_query.check(query, self._indexes, self._unindexed)
            there = [
                found
                for name, found in self.documents.items()
                if name.startswith(collection) and "/" not in name[len(collection) :]
            ]
            rows = firestore_query.run(query, there)
            self.counts["reads"] += max(1, len(rows))
            for row in rows:
                answer = firestore.RunQueryResponse.pb()()
                mask = query.select if query.HasField("select") else None
                _copy(row, answer.document, mask and [f.field_path for f in mask.fields])
                answers.append(answer)
        if not answers:
            answers.append(firestore.RunQueryResponse.pb()())
        for answer in answers:
            answer.read_time.CopyFrom(self._now())
        return answers

    def _commit(self, request: Any) -> Any:
        response = firestore.CommitResponse.pb()()
        with self._lock:
            now = self._now()
            staged: dict[str, Any] = {}
            for write in request.writes:
                result = response.write_results.add()
                new = self._written(write, staged, now)
                if new is not None:
                    result.update_time.CopyFrom(new.update_time)
            for name, new in staged.items():
                self.counts["writes" if new is not None else "deletes"] += 1
                if new is None:
                    self.documents.pop(name, None)
                else:
                    self.documents[name] = new
            response.commit_time.CopyFrom(now)
        return response

    def _written(self, write: Any, staged: dict[str, Any], now: Any) -> Any:
        """The document that a write leaves, None when it is deleted; it is put among the staged."""
        operation = write.WhichOneof("operation")
        if operation not in ("update", "delete") or write.update_transforms:
            raise Refused(Code.UNIMPLEMENTED, "this test server knows no transforms")
        name = write.delete if operation == "delete" else write.update.name
        _check_name(name)
        old = staged.get(name, self.documents.get(name))
        _check_precondition(write.current_document, name, old)
        new: Any = None
        if operation == "update":
            new = documents.Document.pb()(name=name)
            new.create_time.CopyFrom(now if old is None else old.create_time)
            if write.HasField("update_mask"):
                _merge(old, write, new)
            else:
                _copy_fields(write.update.fields, new.fields)
            _check_size(new)
            same = old is not None and dict(old.fields) == dict(new.fields)
            new.update_time.CopyFrom(old.update_time if old is not None and same else now)
        staged[name] = new
        return new

    def _now(self) -> Any:
        self._last = max(time.time_ns() // 1000, self._last + 1)
        stamp = timestamp_pb2.Timestamp()
        stamp.FromMicroseconds(self._last)
        return stamp


def _coding(request: Any) -> tuple[Any, Any]:
    return request.pb().FromString, lambda message: message.SerializeToString()


def _check_precondition(condition: Any, name: str, old: Any) -> None:
    kind = condition.WhichOneof("condition_type")
    if kind == "exists" and condition.exists and old is None:
        raise Refused(Code.NOT_FOUND, f"No document to update: {name}")
    if kind == "exists" and not condition.exists and old is not None:
        raise Refused(Code.ALREADY_EXISTS, f"Document already exists: {name}")
    if kind == "update_time":
        if old is None:
            raise Refused(Code.NOT_FOUND, f"No document to update: {name}")
        if old.update_time != condition.update_time:
            text = "the stored version does not match the required base version"
            raise Refused(Code.FAILED_PRECONDITION, text)


def _check_name(name: str) -> None:
    head, _, path = name.partition("/documents/")
    if not re.fullmatch("projects/[^/]+/databases/[^/]+", head):
        raise refused(f"the name {name!r} names no database")
    parts = path.split("/")
    if len(parts) % 2:
        raise refused(f"the name {name!r} names no document")
    for part in parts:
        if not part or part in (".", "..") or _RESERVED.match(part):
            raise refused(f"the name {name!r} has the part {part!r}")
        if len(part.encode()) > MOST_ID:
            raise refused(f"a part of the name is longer than {MOST_ID} bytes")


def _check_size(document: Any) -> None:
    for field, value in document.fields.items():
        if value.ByteSize() > MOST_VALUE:
            raise refused(f'The value of property "{field}" is longer than {MOST_VALUE} bytes.')
    if document.ByteSize() > MOST_DOCUMENT:
        raise refused(f"Document {document.name} exceeds the maximum size of {MOST_DOCUMENT} bytes")


def _merge(old: Any, write: Any, new: Any) -> None:
    if old is not None:
        _copy_fields(old.fields, new.fields)
    for name in map(firestore_query.field_name, write.update_mask.field_paths):
        if name in write.update.fields:
            new.fields[name].CopyFrom(write.update.fields[name])
        else:
            new.fields.pop(name, None)


def _copy_fields(source: Any, target: Any) -> None:
    for name, value in source.items():
        target[name].CopyFrom(value)


def _copy(source: Any, target: Any, only: Any) -> None:
    """Answer with a document, or with some of its fields; `__name__` stands for none of them."""
    if only is None:
        target.CopyFrom(source)
        return
    target.name = source.name
    target.create_time.CopyFrom(source.create_time)
    target.update_time.CopyFrom(source.update_time)
    for name in map(firestore_query.field_name, only):
        if name in source.fields:
            target.fields[name].CopyFrom(source.fields[name])


__all__ = ["Code", "FirestoreServer", "Refused"]
