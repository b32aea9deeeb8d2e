"""The pure core: records, transition table, journal, retry, values.

Nothing here does I/O, reads a clock or draws a random number: what time it is and what happened
outside come in as arguments, and what shall happen outside goes out as return values.
"""
