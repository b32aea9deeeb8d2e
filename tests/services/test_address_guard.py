import pytest

from sequential.services.address_guard import (
    Clearance,
    HostRule,
    Policy,
    RefusedError,
    classify,
    normal_host,
    parse_rule,
)

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "172.15.255.255",
    "172.32.0.0",
    "169.253.255.255",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:82a::200e",
    "2001:200::1",  # the first block behind the protocol assignments
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]
LOOPBACK = [
    "127.0.0.1",
    "127.255.255.255",
    "127.1.2.3",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::127.0.0.1",
    "2002:7f00:1::",
]
PRIVATE = [
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",  # metadata of Alibaba
    "100.127.255.255",
    "fc00::1",
    "fd00:ec2::254",  # metadata of AWS
    "fdff:ffff::1",
    "::ffff:10.0.0.1",
    "::ffff:192.168.0.1",
    "64:ff9b::10.0.0.1",
    "2002:a00:1::1",
]
RESERVED = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "168.63.129.16",
    "192.0.0.192",  # metadata of Oracle
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",  # IPv4-compatible
    "100::1",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "2001::1",  # Teredo
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "64:ff9b:1::8.8.8.8",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "no address",
    "",
]
KINDS = [
    *((address, "public") for address in PUBLIC),
    *((address, "loopback") for address in LOOPBACK),
    *((address, "private") for address in PRIVATE),
    *((address, "reserved") for address in RESERVED),
]


@pytest.mark.parametrize(("address", "kind"), KINDS)
def test_classify(address: str, kind: str) -> None:
    assert classify(address) == kind


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("a_b.example.com", "a_b.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("ⓛocalhost", "localhost"),
        ("①②⑦.0.0.1", "127.0.0.1"),
        ("127。0。0。1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::FFFF:127.0.0.1]", "::ffff:7f00:1"),
    ],
)
def test_a_host_has_one_spelling(written: str, normal: str) -> None:
    assert normal_host(written) == normal


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("2130706433", "write 127.0.0.1"),
        ("0x7f000001", "write 127.0.0.1"),
        ("0x7f.1", "write 127.0.0.1"),
        ("127.1", "write 127.0.0.1"),
        ("127.0.1", "write 127.0.0.1"),
        ("0177.0.0.1", "write 127.0.0.1"),
        ("0177.0.0.01", "write 127.0.0.1"),
        ("10.0x1", "write 10.0.0.1"),
        ("\uff11\uff12\uff17.1", "write 127.0.0.1"),
        ("1.2.3.4.5", "not an address"),
        ("256.0.0.1", "not an address"),
        ("example.123", "not an address"),
        ("", "not a host name"),
        (".", "not a host name"),
        ("a..b", "not a host name"),
        ("a b", "not a host name"),
        ("%31%32%37.0.0.1", "not a host name"),
        ("exam\nple", "not a host name"),
        ("x" * 64 + ".com", "not a host name"),
        ("ä" * 80, "not a host name"),
        ("a." * 130 + "com", "not a host name"),
        ("[fe80::1%eth0]", "network interface"),
        ("[::1", "IPv6"),
        ("[localhost]", "IPv6"),
        ("::1::", "IPv6"),
    ],
)
def test_what_is_no_host_or_an_odd_spelling_of_one(host: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        normal_host(host)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("api.example.com", HostRule("api.example.com")),
        ("API.Example.com.", HostRule("api.example.com")),
        ("example.com:8443", HostRule("example.com", 8443)),
        ("*.example.com", HostRule("example.com", None, subdomains=True)),
        ("*.example.com:444", HostRule("example.com", 444, subdomains=True)),
        ("*", HostRule("*")),
        ("10.0.0.1", HostRule("10.0.0.1")),
        ("10.0.0.1:80", HostRule("10.0.0.1", 80)),
        ("::1", HostRule("::1")),
        ("[::1]", HostRule("::1")),
        ("[::1]:8080", HostRule("::1", 8080)),
        ("bücher.example", HostRule("xn--bcher-kva.example")),
    ],
)
def test_rules(text: str, rule: HostRule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "https://example.com",
        "example.com/path",
        "user@example.com",
        "a.*.com",
        "*example.com",
        "*.10.0.0.1",
        "10.0.0.0/8",
        "example.com:http",
        "example.com:0",
        "example.com:99999",
        "127.1",
    ],
)
def test_a_wrong_rule_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"allow\.hosts"):
        parse_rule(text)


def policy(*hosts: str, private: bool = False, loopback: bool = False) -> Policy:
    rules = tuple(parse_rule(host) for host in hosts) if hosts else None
    return Policy(rules, allow_private=private, allow_loopback=loopback)


def reaches(policy: Policy, host: str, address: str | None = None, port: int = 443) -> bool:
    """Whether the host may be reached, at this address if it is a name."""
    try:
        clearance = policy.clear(host, port)
        clearance.filter([address or host])
    except RefusedError:
        return False
    return clearance.permits(address or host)


EXAMPLE = ("api.example.com", "*.files.example.com", "intra.example.com:8443", "10.1.1.1", "::1")


@pytest.mark.parametrize(
    ("policy", "host", "address", "port", "expected"),
    [
        (policy(), "example.com", "93.184.216.34", 443, True),
        (policy(), "example.com", "10.0.0.1", 443, False),
        (policy(), "localhost", "127.0.0.1", 443, False),
        (policy(), "93.184.216.34", None, 443, True),
        (policy(), "10.0.0.1", None, 443, False),
        (policy(), "169.254.169.254", None, 80, False),
        (policy(), "::ffff:7f00:1", None, 80, False),
        (policy(loopback=True), "localhost", "127.0.0.1", 80, True),
        (policy(loopback=True), "localhost", "::1", 80, True),
        (policy(loopback=True), "127.9.9.9", None, 80, True),
        (policy(loopback=True), "10.0.0.1", None, 80, False),
        (policy(loopback=True), "0.0.0.0", None, 80, False),
        (policy(private=True), "10.0.0.1", None, 80, True),
        (policy(private=True), "127.0.0.1", None, 80, True),
        (policy(private=True), "db.internal", "fd00::1", 80, True),
        (policy(private=True), "169.254.169.254", None, 80, False),
        (policy(private=True), "metadata.example.com", "169.254.169.254", 80, False),
        (policy(*EXAMPLE), "api.example.com", "93.184.216.34", 443, True),
        (policy(*EXAMPLE), "api.example.com", "10.0.0.1", 443, True),  # named in full
        (policy(*EXAMPLE), "api.example.com.evil.com", "93.184.216.34", 443, False),
        (policy(*EXAMPLE), "xapi.example.com", "93.184.216.34", 443, False),
        (policy(*EXAMPLE), "example.com", "93.184.216.34", 443, False),
        (policy(*EXAMPLE), "a.files.example.com", "93.184.216.34", 443, True),
        (policy(*EXAMPLE), "a.b.files.example.com", "93.184.216.34", 443, True),
        (policy(*EXAMPLE), "files.example.com", "93.184.216.34", 443, False),
        (policy(*EXAMPLE), "xfiles.example.com", "93.184.216.34", 443, False),
        (policy(*EXAMPLE), "a.files.example.com", "10.0.0.1", 443, False),  # only a wildcard
        (policy(*EXAMPLE), "intra.example.com", "10.0.0.1", 8443, True),
        (policy(*EXAMPLE), "intra.example.com", "10.0.0.1", 443, False),
        (policy(*EXAMPLE), "10.1.1.1", None, 80, True),
        (policy(*EXAMPLE), "10.1.1.2", None, 80, False),
        (policy(*EXAMPLE), "::1", None, 80, True),
        (policy(*EXAMPLE), "8.8.8.8", None, 80, False),
        (policy(*EXAMPLE, loopback=True), "localhost", "127.0.0.1", 80, False),
        (policy("*"), "example.com", "93.184.216.34", 443, True),
        (policy("*"), "example.com", "10.0.0.1", 443, False),
        (policy("*.example.com", "a.example.com"), "a.example.com", "10.0.0.1", 443, True),
        (Policy(rules=()), "example.com", "93.184.216.34", 443, False),
    ],
)
def test_policies(
    policy: Policy, host: str, address: str | None, port: int, expected: bool
) -> None:
    assert reaches(policy, host, address, port) is expected


def test_forbidden_addresses_of_a_name_are_left_out() -> None:
    clearance = policy().clear("example.com", 443)
    assert clearance.filter(["10.0.0.1", "8.8.8.8", "::1"]) == ["8.8.8.8"]


def test_the_refusal_says_what_to_do_but_not_which_address_a_name_has() -> None:
    with pytest.raises(RefusedError) as refused:
        Clearance("db.example.com", frozenset(("public",))).filter(["10.1.2.3"])
    assert str(refused.value) == (
        "db.example.com resolves to a private address; "
        "to permit it, name the host in full in the task's allow.hosts"
    )
    with pytest.raises(RefusedError, match=r"evil\.com:443 .*\(api\.example\.com, \*\.x\.org:80\)"):
        policy("api.example.com", "*.x.org:80").clear("evil.com", 443)
