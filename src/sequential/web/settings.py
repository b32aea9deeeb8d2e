"""Settings of the HTTP server; the defaults suit one machine."""

from typing import Annotated, Literal

import msgspec

from sequential.core.bounds import TokenLimits

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Number = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class ServerSettings(msgspec.Struct, frozen=True):
    """The section `server` of `.sequentialrc.json`. Times in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 3000
    public_url: str = ""  # where the server is reached from outside; else the Host header tells
    largest_body: Count = 4 << 20  # of a request
    longest_wait: Seconds = 60.0  # that a request may wait for a run to end
    head_timeout: Seconds = 10.0  # in which the head of a request has to arrive
    body_timeout: Seconds = 30.0  # in which its body has to arrive
    most_connections: Count = 2000  # at a time, of one process; more are answered with 503

    # --- who may do what -------------------------------------------------------------------------
    sent: TokenLimits = TokenLimits()  # what tasks that come over HTTP may do, whoever sends them
    origins: tuple[str, ...] = ()  # of pages elsewhere that may use the API, as https://a.example
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks of proxies that are believed
    proxy_header: str = ""  # in which such a proxy says who the user is, as in X-Forwarded-User
    proxy_role: Literal["read", "operate"] = "read"  # of the users that a proxy names
    rate: Number = 100.0  # requests a second from one address or with one token
    burst: Count = 200  # requests that may come at once
    failed_logins: Count = 20  # a minute from one address; then it has to wait
    audit_days: Annotated[float, msgspec.Meta(ge=0)] = 90.0  # for which audit entries are kept
