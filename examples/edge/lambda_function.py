"""AWS Lambda: handler `lambda_function.handler`, behind a function URL or an HTTP API."""

from sequential.edge import Edge, aws

edge = Edge()
handler = aws.handler(edge)
