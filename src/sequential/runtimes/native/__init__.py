"""The native runtime: trusted Python on this interpreter, resumed by replaying the journal."""
