"""Vercel: all requests come here, and its cron asks for `/sweep`, see `vercel.json`."""

from sequential.edge import Edge, vercel

app = vercel.application(Edge())
