"""How handlers are declared: the decorators of the framework with what all of ours have in common.

Every handler says in the OpenAPI document which errors it may answer with, and what the sender has
to be allowed to: reading asks for the role `read`, all else for `operate` unless it says otherwise.
Tokens that have limits may use only what says `within_limits`, and sees to it itself.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from litestar import delete as _delete
from litestar import get as _get
from litestar import post as _post
from litestar import put as _put
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from sequential.runner.engine import Engine
from sequential.web.errors import ErrorBody
from sequential.web.settings import ServerSettings

# What a handler asks for by these names.
TheEngine = NamedDependency[Engine]
TheSettings = NamedDependency[ServerSettings]

Role = Literal["public", "read", "operate"]
Decorator = Callable[..., Any]

_MEANINGS = {
    400: "what was sent is not right",
    401: "no token, or one that is not known",
    403: "the token does not allow this",
    404: "there is no such thing",
    409: "its state does not allow this",
    413: "what was sent is too large",
    429: "too many requests; the header Retry-After says when to try again",
    503: "the store cannot be used at the moment; try again",
}
ERRORS: Mapping[int, ResponseSpec] = {
    status: ResponseSpec(ErrorBody, description=meaning, generate_examples=False)
    for status, meaning in _MEANINGS.items()
}


def either(status: int, body: type[Any], meaning: str) -> dict[int, ResponseSpec]:
    """For `responses=`: another status that a handler may answer with when all is well."""
    return {status: ResponseSpec(body, description=meaning, generate_examples=False)}


def get(path: str, *, role: Role = "read", **options: Any) -> Decorator:
    return _get(path, **_with(role, options))


def post(path: str, *, role: Role = "operate", **options: Any) -> Decorator:
    return _post(path, **_with(role, options))


def put(path: str, *, role: Role = "operate", **options: Any) -> Decorator:
    return _put(path, **_with(role, options))


def delete(path: str, *, role: Role = "operate", **options: Any) -> Decorator:
    return _delete(path, **_with(role, options))


def _with(role: Role, options: dict[str, Any]) -> dict[str, Any]:
    responses = {**ERRORS, **options.pop("responses", {})}
    within_limits = options.pop("within_limits", False)
    opt = {"role": role, "within_limits": within_limits, **options.pop("opt", {})}
    return {**options, "responses": responses, "opt": opt}
