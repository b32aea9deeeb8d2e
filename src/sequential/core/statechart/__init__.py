"""State graphs: XState's machine configuration as far as JSON can say it, as a pure function.

`machine.Machine` is the door: `(snapshot, event, now) -> (snapshot, effects)`. The rules are those
of the W3C's SCXML recommendation (appendix D) with what XState 5 does differently.
"""
