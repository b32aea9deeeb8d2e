"""What a task asks `fetch` for, checked and made ready to be sent; no network here."""

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

import msgspec

from sequential.services.address_guard import RefusedError, normal_host

ARGUMENTS = (
    "url", "method", "headers", "params", "json", "data", "timeout", "retries", "follow_redirects",
)  # fmt: skip
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # RFC 9110, 9.2.2
REDIRECTS = frozenset({301, 302, 303, 307, 308})
KEY = "idempotency-key"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# These belong to the connection, which is shared: a task that could set them could smuggle a
# second request into it, or reach another site behind a host that it is allowed to reach.
_OURS = frozenset({
    "connection", "content-length", "expect", "host", "http2-settings", "keep-alive",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
# Not to be told to another site. The first three are the rule of RFC 9110 and of browsers, the
# others are how common APIs are given a secret.
_SECRET = frozenset({
    "authorization", "cookie", "proxy-authorization", "api-key", "x-api-key", "x-auth-token",
})  # fmt: skip
_OF_BODY = frozenset({
    "content-type", "content-encoding", "content-language", "content-location", KEY,
})  # fmt: skip


class Target(msgspec.Struct, frozen=True):
    """An absolute URL in parts. It holds neither user and password nor fragment."""

    scheme: str
    host: str  # in the one spelling of `normal_host`
    port: int
    path: str  # quoted
    query: str  # quoted, without "?"

    @property
    def url(self) -> str:
        return f"{self.origin}{self.path}{'?' if self.query else ''}{self.query}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """For messages: query values are left out, since they may be secrets."""
        names = [pair.partition("=")[0] for pair in self.query.split("&") if pair]
        query = "?" + "&".join(f"{name}=..." for name in names) if names else ""
        return f"{self.origin}{self.path}{query}"


class Request(msgspec.Struct, frozen=True):
    """One HTTP request and how it is to be performed. `timeout` is seconds."""

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()  # headers that shall not be added by default
    body: bytes | None = None
    timeout: float = 60.0
    retries: int | None = None
    follow_redirects: bool = True
    confidential: frozenset[str] = frozenset()  # headers, in lower case, that hold secrets

    @property
    def repeatable(self) -> bool:
        """Whether performing it twice does no more than performing it once."""
        return self.method in IDEMPOTENT or any(name.lower() == KEY for name, _ in self.headers)

    def mentions(self, header: str) -> bool:
        """Whether the caller has set this header, given in lower case, or does not want it."""
        return header in self.left_out or any(name.lower() == header for name, _ in self.headers)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


def request_from(
    args: Sequence[Any], kwargs: Mapping[str, Any], *, timeout: float, idempotency_key: str
) -> Request:
    """The request that `fetch(*args, **kwargs)` means.

    `TypeError` or `ValueError` name the argument that is wrong. `timeout` holds where the call
    names none; POST and PATCH carry the idempotency key unless the caller set that header,
    None included.
    """
    given = named(args, kwargs)
    method = _method(given.get("method", "GET"))
    target, credentials = parse_url(given["url"])
    headers, left_out = _headers(given.get("headers"))
    known = {name.lower() for name, _ in headers} | set(left_out)
    body, content_type = _body(given)
    if content_type and "content-type" not in known:
        headers.append(("Content-Type", content_type))
    if credentials and "authorization" not in known:
        headers.append(("Authorization", credentials))
    if method in ("POST", "PATCH") and KEY not in known:
        headers.append(("Idempotency-Key", idempotency_key))
    return Request(
        method=method,
        target=_with_params(target, given.get("params")),
        headers=tuple(headers),
        left_out=tuple(left_out),
        body=body,
        timeout=_timeout(given.get("timeout"), timeout),
        retries=_retries(given.get("retries")),
        follow_redirects=_flag(given.get("follow_redirects", True)),
    )


def parse_url(text: Any) -> tuple[Target, str | None]:
    """The target of a URL, and the value of `Authorization` if it holds a user.

    Escapes in the path and query stay as they were written, so signed URLs stay valid; only what
    may not stand in a URL is escaped.
    """
    if not isinstance(text, str):
        raise TypeError(f"url must be text, not {type(text).__name__}")
    text = text.strip()
    if found := CONTROL.search(text.replace("\t", "\n")):
        raise ValueError(f"url holds the control character {found[0]!r}")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"the url {_shown(text)} is not valid: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"cannot fetch {_shown(text)}: a url begins with http:// or https://")
    authority = parts.netloc.rpartition("@")[2]
    host = authority if authority.endswith("]") else authority.rpartition(":")[0] or authority
    # Browsers end the host at a backslash, others do not: nothing good is written like this.
    if not host or "\\" in parts.netloc or (":" in host and not host.startswith("[")):
        raise ValueError(f"the url {_shown(text)} names no host")
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if port == 0:
        raise ValueError(f"the url {_shown(text)} has no valid port")
    target = Target(
        scheme=parts.scheme,
        host=normal_host(host),
        port=port,
        path=_quoted(parts.path, "/") or "/",
        query=_quoted(parts.query, "/?[]"),
    )
    return target, _credentials(parts.username, parts.password)


def redirected(request: Request, status: int, location: str) -> Request:
    """The request that follows a redirect; it keeps timeout, retries and the like.

    What the first site may know (`Authorization`, cookies, ...) is kept from another origin, with
    the one exception of the same host moving from http to https. A body that was sent
    encrypted is not sent again in the clear: `RefusedError`.
    """
    base = request.target
    target, credentials = parse_url(urljoin(base.url, location))
    method, body = request.method, request.body
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
    if body is not None and (base.scheme, target.scheme) == ("https", "http"):
        raise RefusedError(
            f"it redirects to {target.origin}, where its body would not be encrypted"
        )
    dropped: set[str] = set()
    if body is None and request.body is not None:
        dropped |= _OF_BODY
    upgraded = target.origin == f"https://{base.authority}"
    if target.origin != base.origin and not upgraded:
        dropped |= _SECRET | request.confidential
    headers = [(name, value) for name, value in request.headers if name.lower() not in dropped]
    if credentials and not any(name.lower() == "authorization" for name, _ in headers):
        headers.append(("Authorization", credentials))
    return msgspec.structs.replace(
        request, method=method, target=target, body=body, headers=tuple(headers)
    )


def named(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `fetch` by name; `TypeError` for those it does not have."""
    if len(args) > len(ARGUMENTS):
        raise TypeError(f"fetch() takes {len(ARGUMENTS)} arguments, {len(args)} were given")
    given = dict(zip(ARGUMENTS, args, strict=False))
    for name, value in kwargs.items():
        if name not in ARGUMENTS:
            raise TypeError(f"fetch() has no option {name!r}; it knows {', '.join(ARGUMENTS)}")
        if name in given:
            raise TypeError(f"fetch() was given {name!r} twice")
        given[name] = value
    if "url" not in given:
        raise TypeError("fetch() needs a url")
    return given


def _method(method: Any) -> str:
    if not isinstance(method, str):
        raise TypeError(f"method must be text, not {type(method).__name__}")
    if not _TOKEN.match(method) or method.upper() == "CONNECT":
        raise ValueError(f"{method[:40]!r} is not a method that fetch() can send")
    return method.upper()


def _headers(given: Any) -> tuple[list[tuple[str, str]], list[str]]:
    headers: list[tuple[str, str]] = []
    left_out: list[str] = []
    for name, value in _pairs("headers", given):
        if not isinstance(name, str) or not _TOKEN.match(name):
            raise ValueError(f"headers: {name!r} is not a header name")
        if name.lower() in _OURS:
            raise ValueError(f"headers: {name!r} is set by the client; leave it out")
        if value is None:
            left_out.append(name.lower())
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError(f"headers: {name!r} must be text, not {type(value).__name__}")
        text = str(value).strip(" \t")
        if CONTROL.search(text):
            raise ValueError(f"headers: {name!r} holds a control character, such as a line break")
        headers.append((name, text))
    return headers, left_out


def _pairs(argument: str, given: Any) -> Iterable[tuple[Any, Any]]:
    """The items of a mapping, or the pairs of a list of pairs (as the headers of an answer)."""
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return given.items()
    if isinstance(given, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in given
    ):
        return ((name, value) for name, value in given)
    raise TypeError(f"{argument} must be a dict, not {type(given).__name__}")


def _with_params(target: Target, params: Any) -> Target:
    query = urlencode(_form("params", params))
    joined = "&".join(part for part in (target.query, query) if part)
    return msgspec.structs.replace(target, query=joined)


def _form(argument: str, given: Any) -> list[tuple[str, str]]:
    """Names and values as text: lists give one pair an item, None is left out."""
    pairs: list[tuple[str, str]] = []
    for name, value in _pairs(argument, given):
        for item in value if isinstance(value, list | tuple | set | frozenset) else [value]:
            if isinstance(item, Mapping | bytes | list | tuple):
                raise TypeError(
                    f"{argument}: {name!r} must be text or a number, not {type(item).__name__}"
                )
            if item is not None:
                pairs.append((str(name), str(item).lower() if item in (True, False) else str(item)))
    return pairs


def _body(given: Mapping[str, Any]) -> tuple[bytes | None, str | None]:
    """The body and its content type. `json=None` is the JSON text "null", `data=None` no body."""
    data = given.get("data")
    if "json" in given:
        if data is not None:
            raise ValueError("fetch() takes json or data, not both")
        return _json(given["json"]), "application/json"
    if data is None:
        return None, None
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    if isinstance(data, bytes):
        return data, "application/octet-stream"
    if isinstance(data, Mapping):
        return urlencode(_form("data", data)).encode(), "application/x-www-form-urlencoded"
    raise TypeError(f"data must be text, bytes or a dict of form fields, not {type(data).__name__}")


def _json(value: Any) -> bytes:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise type(error)(f"json: {error}") from None
    return text.encode()


def _timeout(given: Any, default: float) -> float:
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {type(given).__name__}")
    if not (math.isfinite(given) and given > 0):
        raise ValueError(f"timeout must be more than 0 seconds, not {given}")
    return float(given)


def _retries(given: Any) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"retries must be a whole number, not {type(given).__name__}")
    if given < 0:
        raise ValueError(f"retries must be 0 or more, not {given}")
    return given


def _flag(given: Any) -> bool:
    if not isinstance(given, bool):
        raise TypeError(f"follow_redirects must be True or False, not {type(given).__name__}")
    return given


def _quoted(text: str, also: str) -> str:
    quoted = quote(text, safe=f"{also}:@!$&'()*+,;=~-._%")
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", quoted)


def _shown(url: str) -> str:
    """The beginning of a URL that could not be read, without what may be secret."""
    return repr(re.sub(r"//[^/@]*@", "//...@", url.partition("?")[0])[:80])


def _credentials(user: str | None, password: str | None) -> str | None:
    if user is None and password is None:
        return None
    plain = f"{unquote(user or '')}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(plain.encode()).decode()
