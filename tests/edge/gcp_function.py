"""The function for Google's `functions-framework`, as one would deploy it."""

import os

from sequential.edge import Edge, gcp
from sequential.services.local import LocalService

tool = LocalService("tool")


@tool.method()
def echo(x: int) -> int:
    return x


edge = Edge(
    os.environ["STORE"],
    project=os.environ["PROJECT"],
    services=[tool],
    token="let-me-in",
    secret="nobody knows",
    budget=0,
)
handler = gcp.handler(edge)
on_event = gcp.event_handler(edge)
