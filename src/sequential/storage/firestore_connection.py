"""Talking to Firestore: three calls, each tried again as long as that makes sense.

The calls are those of the service's own protocol, on a channel that Google's client library makes.
They run in threads: its asyncio variant is bound to one event loop per process.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import grpc  # type: ignore[import-untyped]
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
from google.cloud.firestore_v1.types import firestore

from sequential.errors import StorageError, StorageUnreachableError
from sequential.storage import firestore_values
from sequential.storage.firestore_place import Place
from sequential.storage.firestore_values import Condition, Found

PATIENCE = 20.0  # seconds in which a call is tried again
ANSWER = 15.0  # seconds for the answer to one try, plus one for each MiB of the request
_THREADS = 16
_HOST = "firestore.googleapis.com:443"
_SERVICE = "/google.firestore.v1.Firestore/"
_Code = grpc.StatusCode
# What passes by itself. After these it is not known whether anything was done: a commit is made
# such that doing it twice shows (preconditions), and whoever sends it looks at what it finds.
_PASSING = {
    _Code.UNAVAILABLE,
    _Code.DEADLINE_EXCEEDED,
    _Code.ABORTED,
    _Code.INTERNAL,
    _Code.RESOURCE_EXHAUSTED,
    _Code.UNKNOWN,
}
_CONFLICTS = {_Code.FAILED_PRECONDITION, _Code.NOT_FOUND, _Code.ALREADY_EXISTS}


class ConflictError(Exception):
    """A commit's precondition does not hold (any more): nothing was written by its last try.

    `repeated` says that an earlier try may have been done, though its answer was lost.
    """

    def __init__(self, details: str, *, repeated: bool) -> None:
        super().__init__(details)
        self.repeated = repeated


class Connection:
    """A channel to the service, or to the emulator if FIRESTORE_EMULATOR_HOST names one."""

    def __init__(self, place: Place, patience: float = PATIENCE) -> None:
        self.place = place
        self.patience = patience
        self._emulator = os.environ.get("FIRESTORE_EMULATOR_HOST", "")
        self._channel = _channel(self._emulator)
        self._threads = ThreadPoolExecutor(_THREADS, "firestore")
        self._get = self._stub(
            "BatchGetDocuments",
            firestore.BatchGetDocumentsRequest,
            firestore.BatchGetDocumentsResponse,
        )
        self._query = self._stub("RunQuery", firestore.RunQueryRequest, firestore.RunQueryResponse)
        self._commit = self._stub("Commit", firestore.CommitRequest, firestore.CommitResponse)

    def close(self) -> None:
        self._channel.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def get(
        self, names: Iterable[str], fields: Sequence[str] | None = None
    ) -> dict[str, Found]:
        """Those of these documents that there are, by name; only some of their fields if given."""
        request = firestore_values.get_request(self.place.root, names, fields)
        if not request.documents:
            return {}
        answers = await self._call(self._get, request, ("database", self.place.root))
        found = [firestore_values.found(a.found) for a in answers if a.HasField("found")]
        return {one.name: one for one in found}

    async def find(
        self,
        kind: str,
        where: Sequence[Condition] = (),
        *,
        order: str = "",
        descending: bool = False,
        behind: Found | str | None = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[Found]:
        """The documents of a collection for which all of this holds, by the field `order`.

        Without an order they come by name. Those up to `behind`, an id or a document that was
        found, are left out.
        """
        request = firestore_values.query_request(
            self.place.parent,
            self.place.collection(kind),
            where,
            order=order,
            descending=descending,
            behind=self.place.name(kind, behind) if isinstance(behind, str) else behind,
            limit=limit,
            fields=fields,
        )
        answers = await self._call(self._query, request, ("parent", self.place.parent))
        return [firestore_values.found(a.document) for a in answers if a.HasField("document")]

    async def commit(self, writes: Sequence[Any]) -> list[Any]:
        """Do all of these writes or none; returns the new version of each document.

        Raises `ConflictError` when a precondition of one does not hold.
        """
        request = firestore_values.commit_request(self.place.root, writes)
        [answer] = await self._call(self._commit, request, ("database", self.place.root))
        return [result.update_time for result in answer.write_results]

    def _stub(self, method: str, request: Any, response: Any) -> Callable[..., list[Any]]:
        is_stream = method != "Commit"
        make = self._channel.unary_stream if is_stream else self._channel.unary_unary
        stub = make(
            _SERVICE + method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.pb().FromString,
        )
        return lambda *given, **named: (
            list(stub(*given, **named)) if is_stream else [stub(*given, **named)]
        )

    async def _call(
        self, method: Callable[..., list[Any]], request: Any, routing: tuple[str, str]
    ) -> list[Any]:
        metadata = [
            ("google-cloud-resource-prefix", self.place.root),
            ("x-goog-request-params", f"{routing[0]}={quote(routing[1], safe='')}"),
        ]
        if self._emulator:
            metadata.append(("authorization", "Bearer owner"))
        timeout = ANSWER + request.ByteSize() / (1 << 20)
        end = time.monotonic() + self.patience
        pause, repeated = 0.01, False
        while True:
            try:
                return await self._in_thread(lambda: method(request, timeout, metadata))
            except grpc.RpcError as error:
                code, details = error.code(), error.details() or ""
                if code in _CONFLICTS and _is_conditional(request):
                    raise ConflictError(details, repeated=repeated) from error
                if code not in _PASSING or time.monotonic() + pause > end:
                    raise self._explained(code, details) from error
                repeated = repeated or code is not _Code.ABORTED
            except GoogleAuthError as error:
                raise _no_credentials(error) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, 2.0)

    async def _in_thread(self, work: Callable[[], list[Any]]) -> list[Any]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _explained(self, code: Any, details: str) -> StorageError:
        """The error in one line, with what to do."""
        detail = " ".join(details.split())[:300]
        place = f"the Firestore database {self.place.database} of project {self.place.project}"
        if code is _Code.UNAVAILABLE and self._emulator:
            return StorageUnreachableError(
                f"no Firestore emulator answers at {self._emulator}: start it, or unset "
                "FIRESTORE_EMULATOR_HOST"
            )
        remedies: Mapping[Any, str] = {
            _Code.UNAVAILABLE: f"Firestore cannot be reached: check the network ({detail})",
            _Code.UNAUTHENTICATED: f"{place} does not accept these credentials: renew them with "
            f"`gcloud auth application-default login` ({detail})",
            _Code.PERMISSION_DENIED: f"{place} must not be used with these credentials: give their "
            f"account the role roles/datastore.user, and check the project's name ({detail})",
            _Code.NOT_FOUND: f"there is no {place.removeprefix('the ')}: make it with `gcloud "
            f"firestore databases create`, or correct the URL ({detail})",
            _Code.DEADLINE_EXCEEDED: "Firestore did not answer in time: try again, and look at "
            f"its status and at the network ({detail})",
            _Code.RESOURCE_EXHAUSTED: f"the quota of {place} is used up: raise it, or wait for the "
            f"next day ({detail})",
            _Code.ABORTED: f"too many write the same documents of {place} at once: try again, or "
            f"use fewer workers ({detail})",
        }
        if code is _Code.FAILED_PRECONDITION and "index" in detail:
            return StorageError(
                f"{place} lacks an index: deploy docs/firestore.indexes.json ({detail})"
            )
        return StorageError(remedies.get(code) or f"{place} refuses: {code.name} ({detail})")


def _is_conditional(request: Any) -> bool:
    writes = getattr(request, "writes", ())
    return any(write.HasField("current_document") for write in writes)


def _channel(emulator: str) -> Any:
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", 30_000),
        # After an outage the service is found again within seconds, not minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if emulator:
        return grpc.insecure_channel(emulator, options)
    try:
        return FirestoreGrpcTransport.create_channel(_HOST, options=options)
    except GoogleAuthError as error:
        raise _no_credentials(error) from error


def _no_credentials(error: GoogleAuthError) -> StorageError:
    detail = " ".join(str(error).split())[:200]
    return StorageError(
        "Firestore needs credentials: run `gcloud auth application-default login`, or name a key "
        "file in GOOGLE_APPLICATION_CREDENTIALS, or an emulator in FIRESTORE_EMULATOR_HOST "
        f"({detail})"
    )
