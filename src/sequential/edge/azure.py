"""For Azure Functions, in the programming model of version 2.

app = azure.functions.FunctionApp(http_auth_level=azure.functions.AuthLevel.ANONYMOUS)
app.route("{*path}")(sequential.edge.azure.handler(edge))
app.timer_trigger("timer", "0 * * * * *")(sequential.edge.azure.timer(edge))
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from sequential.edge.handler import Edge
from sequential.edge.message import Event, Request, event_from, query_of, refusal


def handler(edge: Edge) -> Callable[[Any], Awaitable[Any]]:
    """The function that is called with an `HttpRequest` and returns an `HttpResponse`."""
    from azure.functions import HttpResponse  # noqa: PLC0415 - only where Azure runs it

    async def main(req: Any) -> Any:
        url = urlsplit(req.url)
        rest = req.route_params.get("path", "")
        path = "/" + rest if rest else url.path
        prefix = unquote(url.path).removesuffix(path)
        try:
            query = query_of(url.query)
        except ValueError:
            response = refusal(400, "invalid_input", "the query has too many fields")
        else:
            request = Request(
                req.method,
                unquote(path),
                {name.lower(): value for name, value in req.headers.items()},
                query,
                req.get_body(),
                f"{url.scheme}://{url.netloc}{prefix.rstrip('/')}",
            )
            response = await edge.handle(request)
        return HttpResponse(
            response.body,
            status_code=response.status,
            headers=dict(response.headers),
            mimetype=response.headers["Content-Type"].partition(";")[0],
        )

    return main


def timer(edge: Edge) -> Callable[[Any], Awaitable[None]]:
    """The function that a timer calls: it goes on with what is due."""

    async def sweep(timer: Any) -> None:
        await edge.handle_event(Event())

    return sweep


def queue(edge: Edge) -> Callable[[Any], Awaitable[None]]:
    """The function that is called with a `QueueMessage`, `{"resume": "<run>"}`."""

    async def resume(msg: Any) -> None:
        await edge.handle_event(event_from(msg.get_body()))

    return resume
