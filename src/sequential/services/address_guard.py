"""Which hosts and addresses a task may reach. Decisions only: nothing here touches the network.

A name is judged before it is resolved, an address after. `Policy.clear` does the first and hands
out a `Clearance`; whoever opens or reuses a connection asks `Clearance.permits` with the address
of the peer. Every redirect starts again at `clear`.

A task without `allow.hosts` reaches everything public. With it, only what is listed; a host that
is named in full may also be private, because whoever wrote the list meant that very host. A host
that only fits `*.example.com` may not: the owner of the domain chooses its addresses.
"""

import re
import socket
from functools import lru_cache
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Literal

import msgspec

from sequential.core.model import evolve

Kind = Literal["public", "loopback", "private", "reserved"]

# The tables are ours because `is_global` of the standard library differs between versions.
# https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-special-registry
_IPV4_KINDS: dict[Kind, tuple[str, ...]] = {
    "loopback": ("127.0.0.0/8",),
    "private": (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # carrier-grade NAT, also used inside clouds and VPNs
    ),
    "reserved": (
        "0.0.0.0/8",  # 0.0.0.0 reaches this machine on most systems
        "169.254.0.0/16",  # link-local, with the clouds' metadata servers
        "168.63.129.16/32",  # looks public, but is Azure's own inside its network
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",
    ),
}
_IPV4 = tuple((IPv4Network(net), kind) for kind, nets in _IPV4_KINDS.items() for net in nets)
_IPV6_PRIVATE = IPv6Network("fc00::/7")
_IPV6_GLOBAL = IPv6Network("2000::/3")  # all that has been given out; the rest is not public
_IPV6_RESERVED = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, among them Teredo, which hides an IPv4 address
        "2001:db8::/32",
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
_WHY = {
    "loopback": "an address of this machine",
    "private": "a private address",
    "reserved": "an address that is not on the public internet",
}
TASKS_OWN = "the task's allow.hosts"


class RefusedError(Exception):
    """The task may not reach this host."""


class HostRule(msgspec.Struct, frozen=True):
    """One entry of `allow.hosts`. `host` is normal (`normal_host`); "*" stands for every host."""

    host: str
    port: int | None = None
    subdomains: bool = False

    def fits(self, host: str, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if self.subdomains:
            return host.endswith("." + self.host)
        return self.host in ("*", host)


class Clearance(msgspec.Struct, frozen=True):
    """The permission to connect to one host, bound to the addresses it may have."""

    host: str
    kinds: frozenset[Kind] | None  # None: whatever the address is
    whose: str = TASKS_OWN  # the list that would have to name the host

    def permits(self, address: str) -> bool:
        """Whether the host may be reached at this address, given as text."""
        return self.kinds is None or classify(address) in self.kinds

    def also(self, other: "Clearance") -> "Clearance":
        """What both permit."""
        if other.kinds is None:
            return self
        return other if self.kinds is None else evolve(self, kinds=self.kinds & other.kinds)

    def filter(self, addresses: list[str]) -> list[str]:
        """The addresses that may be connected to; `RefusedError` if all of them are forbidden."""
        permitted = [address for address in addresses if self.permits(address)]
        if addresses and not permitted:
            # The address itself is not told: names inside a network are nobody's business.
            why = _WHY[classify(addresses[0])]
            raise RefusedError(f"{self.host} resolves to {why}; {_cure(self.whose)}")
        return permitted


class Policy(msgspec.Struct, frozen=True):
    """What a task may reach: its own list, and what the operator opened.

    `allow_private` opens private networks and loopback, but not link-local and reserved
    addresses: a cloud's metadata server is never what is meant by "our network". What is `within`
    other policies has to be cleared by each of them, too.
    """

    rules: tuple[HostRule, ...] | None = None
    allow_private: bool = False
    allow_loopback: bool = False
    whose: str = TASKS_OWN  # in words, the list that the rules are from
    within: tuple["Policy", ...] = ()

    def clear(self, host: str, port: int) -> Clearance:
        """The clearance for a normal host (`normal_host`), or `RefusedError` saying why not."""
        fitting = [rule for rule in self.rules or () if rule.fits(host, port)]
        if self.rules is not None and not fitting:
            listed = ", ".join(_written(rule) for rule in self.rules) or "no host"
            raise RefusedError(f"{host}:{port} is not in {self.whose} ({listed})")
        named = any(rule.host == host for rule in fitting)
        clearance = Clearance(host, None if named else self._kinds(), self.whose)
        if is_address(host) and not clearance.permits(host):
            raise RefusedError(f"{host} is {_WHY[classify(host)]}; {_cure(self.whose)}")
        for outer in self.within:
            clearance = clearance.also(outer.clear(host, port))
        return clearance

    def _kinds(self) -> frozenset[Kind]:
        if self.allow_private:
            return frozenset(("public", "loopback", "private"))
        return frozenset(("public", "loopback") if self.allow_loopback else ("public",))


@lru_cache(maxsize=1024)
def parse_rule(text: str) -> HostRule:
    """The rule of one entry of `allow.hosts`; `ValueError` says what to write instead."""
    if not text or re.search(r"[\s/@?#\\]", text):
        raise ValueError(
            f'allow.hosts: {text!r} is not a host; write "example.com", "*.example.com", '
            '"example.com:8443" or an address'
        )
    host, port = _split_port(text)
    if host == "*":
        return HostRule("*", port)
    if subdomains := host.startswith("*."):
        host = host[2:]
    try:
        normal = normal_host(host)
    except ValueError as error:
        raise ValueError(f"allow.hosts: {error}") from None
    if subdomains and is_address(normal):
        raise ValueError(f"allow.hosts: {text!r} puts a wildcard before an address")
    return HostRule(normal, port, subdomains)


def normal_host(text: str) -> str:
    """The one spelling of a host: lower case, IDNA, no final dot, no brackets, short IPv6.

    `ValueError` for what is no host, and for the odd spellings of addresses (`127.1`,
    `0x7f000001`, `2130706433`) that some resolvers take for numbers and others for names.
    """
    if text.startswith("[") and text.endswith("]"):
        return _ipv6(text[1:-1])
    if ":" in text:
        return _ipv6(text)
    host = text.lower() if text.isascii() else _idna(text)
    host = host.removesuffix(".")
    if not _NAME.match(host):
        raise ValueError(f"{text!r} is not a host name")
    if _NUMBER.match(host.rpartition(".")[2]):
        return _ipv4(host)
    return host


def is_address(host: str) -> bool:
    """Whether a normal host is an address, not a name."""
    return ":" in host or bool(_NUMBER.match(host.rpartition(".")[2]))


def classify(address: str) -> Kind:
    """What kind of address this is, looking through the forms of IPv6 that hold an IPv4 address.

    What cannot be read as an address is "reserved".
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "reserved"
    if isinstance(parsed, IPv4Address):
        return next((kind for network, kind in _IPV4 if parsed in network), "public")
    return _classify_ipv6(parsed)


def _classify_ipv6(address: IPv6Address) -> Kind:
    if address.ipv4_mapped is not None:
        return classify(str(address.ipv4_mapped))
    if address in _NAT64:
        return classify(str(IPv4Address(int(address) & 0xFFFFFFFF)))
    if address in _SIX_TO_FOUR:
        return classify(str(IPv4Address(int(address) >> 80 & 0xFFFFFFFF)))
    if address == IPv6Address("::1"):
        return "loopback"
    if address in _IPV6_PRIVATE:
        return "private"
    if address not in _IPV6_GLOBAL or any(address in network for network in _IPV6_RESERVED):
        return "reserved"
    return "public"


def _cure(whose: str) -> str:
    return f"to permit it, name the host in full in {whose}"


def _split_port(text: str) -> tuple[str, int | None]:
    bracket, colon = text.rfind("]"), text.rfind(":")
    if colon == -1 or colon < bracket or (bracket == -1 and text.count(":") > 1):
        return text, None
    digits = text[colon + 1 :]
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
        raise ValueError(f"allow.hosts: {text!r} has no valid port")
    return text[:colon], int(digits)


def _ipv4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        pass
    try:
        meant = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        raise ValueError(f"{host!r} is not an address") from None
    raise ValueError(f"{host!r} is an unusual spelling of an address: write {meant}")


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError as error:
        raise ValueError(f"{text!r} is not an IPv6 address: {error}") from None
    if address.scope_id is not None:
        raise ValueError(f"{text!r} names a network interface, which is not possible here")
    if mapped := address.ipv4_mapped:  # newer Pythons write these with dots
        return f"::ffff:{int(mapped) >> 16:x}:{int(mapped) & 0xFFFF:x}"
    return address.compressed


def _idna(text: str) -> str:
    # The same conversion that the HTTP client would do, so that both speak of the same host.
    from yarl import URL  # noqa: PLC0415 - rarely needed

    try:
        return URL.build(scheme="http", host=text).raw_host or ""
    except ValueError:
        raise ValueError(f"{text!r} is not a host name") from None


def _written(rule: HostRule) -> str:
    host = f"[{rule.host}]" if ":" in rule.host else rule.host
    port = "" if rule.port is None else f":{rule.port}"
    return f"{'*.' if rule.subdomains else ''}{host}{port}"
