"""The runner: drives runs turn by turn, performs their calls, and never loses either."""
