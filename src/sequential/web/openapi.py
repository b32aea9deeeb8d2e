"""The OpenAPI document of the server: what the framework finds out, and what it cannot know."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Reference, SecurityScheme
from litestar.types import HTTPScope

from sequential.web.handlers import get

_PATH = "/api/v1/openapi.json"
_REFERENCE = "#/components/schemas/"
_SECURITY_SCHEMES: dict[str, SecurityScheme | Reference] = {
    "bearer": SecurityScheme("http", scheme="bearer", description="a token"),
    "basic": SecurityScheme("http", scheme="basic", description="any name, and a token"),
}


def openapi_config() -> OpenAPIConfig:
    """What the framework has to know of the document."""
    return OpenAPIConfig(
        title="sequential-ecosystem",
        version=version("sequential-ecosystem"),
        path="/openapi",
        render_plugins=[JsonRenderPlugin(path="/schema.json")],
        components=Components(security_schemes=_SECURITY_SCHEMES),
        security=[{name: []} for name in _SECURITY_SCHEMES],
    )


@get(_PATH, role="public", include_in_schema=False, sync_to_thread=False)
def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The OpenAPI document of this server, which may be mounted in another application."""
    return {**document(request.app), "servers": [{"url": _place(request.scope) or "/"}]}


def _place(scope: HTTPScope) -> str:
    """Where the server is mounted; not every framework that mounts it says so."""
    asked = scope["raw_path"].decode("latin-1").partition("?")[0]
    is_told = not asked.endswith(_PATH) or asked.startswith("//")
    return scope["root_path"] if is_told else asked.removesuffix(_PATH)


def document(app: Litestar) -> dict[str, Any]:
    """The document of an application, in full."""
    made: dict[str, Any] = msgspec.to_builtins(app.openapi_schema.to_schema())
    schemas = made["components"]["schemas"]
    # What is sent has to be right to the letter: a misspelled field is refused, not passed over.
    for name in _sent(made, schemas):
        if "properties" in schemas[name]:
            schemas[name]["additionalProperties"] = False
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            if is_public(app, path, method):
                operation["security"] = []
    return made


def is_public(app: Litestar, path: str, method: str) -> bool:
    """Whether a path of the document asks for no token."""
    for route in app.routes:
        if route.path_format == path:
            for handler in getattr(route, "route_handlers", ()):
                if method.upper() in handler.http_methods:
                    return bool(handler.opt.get("role") == "public")
    return False


def _sent(made: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """The names of all schemas that are parts of bodies of requests."""
    operations = [one for methods in made["paths"].values() for one in methods.values()]
    found: set[str] = set()
    ahead = [name for one in operations for name in _named(one.get("requestBody", {}))]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(_named(schemas[name]))
    return found


def _named(tree: Any) -> Iterator[str]:
    """The names of the schemas that a part of the document refers to."""
    if isinstance(tree, dict):
        reference = tree.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(_REFERENCE)
        for value in tree.values():
            yield from _named(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _named(value)
