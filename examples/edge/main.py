"""Google Cloud: `functions-framework --target handler`, and `--target on_event` for Pub/Sub."""

from sequential.edge import Edge, gcp

edge = Edge()
handler = gcp.handler(edge)
on_event = gcp.event_handler(edge)
