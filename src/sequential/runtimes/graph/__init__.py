"""The graph runtime: a state machine whose handlers are runs of their own."""
