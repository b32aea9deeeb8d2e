"""Settings of the HTTP server; the defaults suit one machine."""

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class ServerSettings(msgspec.Struct, frozen=True):
    """The section `server` of `.sequentialrc.json`. Times in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 3000
    public_url: str = ""  # where the server is reached from outside; else the Host header tells
    largest_body: Count = 4 << 20  # of a request
    longest_wait: Seconds = 60.0  # that a request may wait for a run to end
