"""Google's APIs as Google's own client describes them: which there are, and how one is asked.

The client comes with a document for each API, so nothing is looked up at run time. A task names a
method as `<api>.<resource>.<method>`, or `<api>_<version>....` where the version matters.
"""

import base64
import difflib
import functools
import io
import json
import re
import threading
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from sequential.services.base import CallError
from sequential.services.gapi_scopes import narrowest

if TYPE_CHECKING:
    from googleapiclient.http import HttpRequest  # type: ignore[import-untyped]

RESUMABLE = 5 * 1024 * 1024  # bytes; Google takes larger files in two steps only
DOCUMENTS = 16  # kept at a time: some take 30 MB of memory
# "admin" stands for what administrators mean by it; Google's own list prefers the reports.
_PREFERRED = {"admin": "directory_v1"}
_VERSION = re.compile(r"(?:.*_)?v(\d+)(?:[._](\d+))?(alpha|beta|p)?")
# They would put a key into the URL, and so into the journal.
_KEYS = frozenset({"access_token", "oauth_token", "key"})


class Method(msgspec.Struct, frozen=True):
    """A method of an API. `path` are the names of the resources it lies under, and its own."""

    operation: str  # as the task wrote it, with the service before
    api: str
    version: str
    path: tuple[str, ...]
    http: str  # GET, POST, ...
    scopes: tuple[str, ...]
    takes_media: bool

    @property
    def is_repeatable(self) -> bool:
        """Whether doing it twice does the same as doing it once."""
        return self.http in ("GET", "PUT", "DELETE")


class Api:
    """One API in one version: its methods by dotted names, and the client made of its document."""

    def __init__(self, document: dict[str, Any]) -> None:
        from googleapiclient.discovery import (  # type: ignore[import-untyped]  # noqa: PLC0415
            build_from_document,
        )

        self.methods = dict(_methods_below(document))
        # Our own connections are used, but without any the client looks for credentials.
        self._levels: dict[tuple[str, ...], Any] = {
            (): build_from_document(document, http=_NoConnection())
        }

    def level(self, path: tuple[str, ...]) -> Any:
        """The client's object with the methods below these resources; making one takes 50 ms."""
        if path not in self._levels:
            self._levels[path] = getattr(self.level(path[:-1]), path[-1])()
        return self._levels[path]


class _NoConnection:
    """In place of the client's connections."""

    def close(self) -> None:
        """There is nothing to close."""


class Catalog:
    """All APIs. `root_url` stands for the address of each of them, for tests and for gateways."""

    def __init__(self, root_url: str | None = None) -> None:
        self._root_url = root_url
        self._read = functools.lru_cache(DOCUMENTS)(self._load)
        self._reading = threading.Lock()  # one document at a time, and each of them once

    @functools.cached_property
    def names(self) -> dict[str, tuple[str, str]]:
        """API and version by the names that tasks use: "gmail", "gmail_v1"."""
        from googleapiclient import (  # type: ignore[import-untyped]  # noqa: PLC0415
            discovery_cache,
        )

        folder = Path(discovery_cache.__file__).parent / "documents"
        listed = json.loads((folder / "index.json").read_bytes())["items"]
        preferred = {item["name"]: item["version"] for item in listed if item["preferred"]}
        found: dict[str, list[str]] = {}
        for file in sorted(folder.glob("*.*.json")):
            api, _, version = file.name.removesuffix(".json").partition(".")
            found.setdefault(api, []).append(version)
        names: dict[str, tuple[str, str]] = {}
        for api, versions in found.items():
            best = _PREFERRED.get(api) or preferred.get(api)
            names[api] = (api, best if best in versions else max(versions, key=_age))
            names |= {f"{api}_{v}".replace(".", "_"): (api, v) for v in versions}
        return names

    def method(self, name: str) -> Method:
        """The method of this name; `CallError` if there is none, with one that is like it."""
        first, *path = name.split(".")
        if first not in self.names:
            raise _unknown(name, f"there is no API {first!r}", first, self.names)
        api, version = self.names[first]
        methods = self._methods(api, version)
        path = [_spelled(part) for part in path]
        below = ".".join(path)
        if below not in methods:
            known = [f"{first}.{other}" for other in methods]
            raise _unknown(name, f"{first} has no method {below!r}", name, known)
        described = methods[below]
        return Method(
            operation=f"gapi.{name}",
            api=api,
            version=version,
            path=tuple(path),
            http=described["httpMethod"],
            scopes=tuple(described.get("scopes", ())),
            takes_media=bool(described.get("supportsMediaUpload")),
        )

    def listed(self, api: str) -> list[dict[str, Any]]:
        """The methods of an API, each with what it takes, for people and for models."""
        if api not in self.names:
            raise _unknown(api, f"there is no API {api!r}", api, self.names)
        return [
            {
                "name": f"{api}.{name}",
                "description": described.get("description", ""),
                "parameters": {
                    key: value.get("type", "object")
                    for key, value in described.get("parameters", {}).items()
                }
                | ({"body": described["request"]["$ref"]} if "request" in described else {}),
                "scope": narrowest(described.get("scopes", ()), described["httpMethod"]),
            }
            for name, described in self._methods(*self.names[api]).items()
        ]

    def request(self, method: Method, params: Mapping[str, Any]) -> "HttpRequest":
        """The request of a call; `CallError` for arguments that the method does not take."""
        if refused := _KEYS & params.keys():
            raise _wrong(method, f"{min(refused)} is not for tasks: keys are in the keystore")
        media = {"media_body": _media(method, params)} if "media_body" in params else {}
        ours = ("media_body", "media_mime_type") if media else ()
        given = {name: _sendable(value) for name, value in params.items() if name not in ours}
        given |= media
        try:
            request = getattr(self._resource(method), method.path[-1])(**given)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise _wrong(method, str(error)) from None
        except Exception as error:  # what googleapiclient calls its own: too large, wrong type
            raise _wrong(method, f"{type(error).__name__}: {error}") from None
        if ".." in urlsplit(request.uri).path.replace("%2E", ".").split("/"):
            raise _wrong(method, "an argument leads out of the address of this method")
        return request

    def next_page(
        self, method: Method, request: "HttpRequest", answer: Mapping[str, Any]
    ) -> "HttpRequest | None":
        """The request for the page behind an answer; None behind the last one."""
        return getattr(self._resource(method), f"{method.path[-1]}_next")(request, answer)

    def has_pages(self, method: Method) -> bool:
        """Whether the answers of a method come in pages."""
        return hasattr(self._resource(method), f"{method.path[-1]}_next")

    def _methods(self, api: str, version: str) -> dict[str, dict[str, Any]]:
        return self._api(api, version).methods

    def _resource(self, method: Method) -> Any:
        return self._api(method.api, method.version).level(method.path[:-1])

    def _api(self, api: str, version: str) -> Api:
        with self._reading:
            return self._read(api, version)

    def _load(self, api: str, version: str) -> Api:
        from googleapiclient.discovery_cache import (  # type: ignore[import-untyped]  # noqa: PLC0415
            get_static_doc,
        )

        document: dict[str, Any] = json.loads(get_static_doc(api, version))
        if self._root_url is not None:
            document["rootUrl"] = self._root_url.rstrip("/") + "/"
            document.pop("baseUrl", None)
            document.pop("mtlsRootUrl", None)
        return Api(document)


def _methods_below(
    level: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every method below a level of a document by its dotted name."""
    for name, described in level.get("methods", {}).items():
        yield prefix + _spelled(name), described
        if described.get("supportsMediaDownload"):
            yield f"{prefix}{_spelled(name)}_media", described
    for name, below in level.get("resources", {}).items():
        yield from _methods_below(below, f"{prefix}{_spelled(name)}.")


def _spelled(name: str) -> str:
    """The name as the client spells it: not all of Google's are names in Python."""
    from googleapiclient.discovery import fix_method_name  # noqa: PLC0415

    spelled: str = fix_method_name(name)
    return spelled


def _sendable(value: Any) -> Any:
    """A value as Google writes it: times in ISO 8601, bytes as base64, decimals as text."""
    if isinstance(value, dict):
        return {key: _sendable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_sendable(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.urlsafe_b64encode(value).decode()
    return str(value) if isinstance(value, Decimal) else value


def _media(method: Method, given: Mapping[str, Any]) -> Any:
    """The content of an upload. Text would be taken for the path of a file of this machine."""
    from googleapiclient.http import MediaIoBaseUpload  # noqa: PLC0415

    content = given["media_body"]
    kind = given.get("media_mime_type") or "application/octet-stream"
    if not method.takes_media:
        raise _wrong(method, "it takes no media_body")
    if not isinstance(content, bytes) or not isinstance(kind, str):
        raise _wrong(method, "media_body must be bytes, and media_mime_type text")
    if not content:
        raise _wrong(method, "media_body is empty")
    return MediaIoBaseUpload(io.BytesIO(content), kind, resumable=len(content) > RESUMABLE)


def _age(version: str) -> tuple[bool, int, int, str]:
    """Sorts versions: stable ones last, later ones behind earlier ones."""
    found = _VERSION.match(version)
    if found is None:
        return False, 0, 0, version
    return not found[3], int(found[1]), int(found[2] or 0), version


def _wrong(method: Method, told: str) -> CallError:
    return CallError("TypeError", f"{method.operation}: {told}", code="invalid_call")


def _unknown(name: str, told: str, wanted: str, known: Any) -> CallError:
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "gapi.listApis() shows what there is"
    return CallError("RuntimeError", f"gapi.{name}: {told}; {hint}", code="unknown_method")
