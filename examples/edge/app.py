"""Any ASGI server: `uvicorn app:app`."""

from sequential.edge import Edge, asgi

app = asgi.application(Edge())
