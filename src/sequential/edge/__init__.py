"""Runs on short-lived functions: each invocation loads a run, goes on with it, saves, and ends.

edge = Edge("postgres://...")
handler = sequential.edge.aws.handler(edge)

`Edge.handle` takes a request as plain data and gives back a response; the modules beside it put it
behind what AWS, Google, Azure, Vercel and ASGI servers call.
"""

from sequential.edge.handler import Edge
from sequential.edge.message import Request, Response

__all__ = ["Edge", "Request", "Response"]
