"""Filters and values to try, for the tests beside this file."""

from hypothesis import strategies as st

from serai.analysis.filter import FIELDS, And, Filter, Not, Operator, Or, Term, term
from serai.model.ports import PROTOCOLS
from serai.model.reasons import Reason

ODD = [
    "it's", 'a "b"', "100%", "a_b", "axb", "{f0:String}", "%(f0)s", "'; DROP TABLE flows --", "/* */", "`vm`", "a b ",
    "", "and", "é", "0 OR 1=1", "$1", "?x", "()",
]  # fmt: skip
"""Texts that are hard on whoever puts them into SQL."""
VMS = ["web-1", "web-2", "db-1", "x"]
SCOPES = ["/", "/acme", "/acme/shop", "/acme/sh", "/acme/shop/front", "/globex"]
PATHS = [f"{scope}:{name}" for scope in SCOPES for name in VMS]
ADDRESSES = [
    "10.0.0.1",
    "10.0.0.2",
    "10.1.2.3",
    "192.0.2.9",
    "0.0.0.0",  # noqa: S104 - to be looked for
    "255.255.255.255",
    "2001:db8::1",
    "fe80::1",
    "::",
    "::1",
    "1::",
]
PREFIXES = [
    "10.0.0.0/8", "10.0.0.0/24", "0.0.0.0/0", "192.0.2.9/32", "::/0", "::/80", "::/96", "::/64", "::fffe:0:0/95", "2001:db8::/32",
    "fe80::/10", "8000::/1", "::/128", "::1/127",
]  # fmt: skip
PORTS = ["0", "1", "22", "80", "443", "2048", "8000-8099", "0-65535", "50000", "65535", "49151-49152"]
SERVICES = [
    *PORTS,
    "tcp",
    "udp",
    "tcp/443",
    "udp/53",
    "sctp/1-80",
    "icmp",
    "icmp/8",
    "icmp/8.0",
    "icmpv6/128",
    "icmp/0",
]
COUNTS = ["0", "1", "60", "1500", "1k", "1.5Ki", "1M", "3G", "18446744073709551615"]
TIMES = ["0s", "1us", "900us", "10ms", "2.5s", "1m", "2h", "1d"]
KEYS = ["tier", "app", "app.kubernetes.io/name", "none", "it`s"]
LABELS = ["db", "web", "", "a_b", "axb"]
RULES = ["/acme:shop/ingress/from-web", "builtin/ingress", "unmatched/egress", *ODD]
PATTERNS = [
    "*",
    "?",
    "web-*",
    "*-1",
    "/acme*",
    "?b-?",
    "a_b",
    "100%",
    "*b*",
    "*'*",
    "%",
    "_",
    "/acme/shop:*",
    "*/nic?",
    "*:*",
]
NUMBERS = [*map(str, range(256)), *PROTOCOLS]

VALUES = {
    "vm": VMS + PATHS, "peer": VMS + PATHS, "src": VMS + PATHS + ADDRESSES + PREFIXES,
    "dst": VMS + PATHS + ADDRESSES + PREFIXES, "tenant": ["acme", "globex", ""], "peer.tenant": ["acme", "globex", ""],
    "scope": SCOPES, "peer.scope": SCOPES, "label": LABELS + ODD, "peer.label": LABELS + ODD,
    "network": ["front", "back", "/acme:front", "/globex:front", "/acme:other"],
    "vnic": ["0x0", "0x1", "0xffffffffffffffff", "web-1/nic0", "/acme/shop:web-1/nic0", "/acme:db-1/nic1"],
    "host": ["h1", "h2", *ODD], "local": ADDRESSES + PREFIXES, "remote": ADDRESSES + PREFIXES,
    "addr": ADDRESSES + PREFIXES, "service": SERVICES, "port": PORTS, "local_port": PORTS, "remote_port": PORTS,
    "protocol": NUMBERS, "direction": ["egress", "ingress"], "verdict": ["accepted", "denied", "observed"],
    "staged": ["accepted", "denied", "observed"], "reason": [reason.name.lower() for reason in Reason], "rule": RULES,
    "bytes": COUNTS, "bytes_in": COUNTS, "bytes_out": COUNTS, "packets": COUNTS, "packets_in": COUNTS,
    "packets_out": COUNTS, "connections": COUNTS, "rtt": TIMES, "age": TIMES, "unanswered": ["yes", "no"],
    "refused": ["yes", "no"], "begins": ["yes", "no"], "ends": ["yes", "no"],
}  # fmt: skip
"""Values to compare each field with."""


@st.composite
def terms(draw: st.DrawFn, fields: tuple[str, ...] = tuple(FIELDS)) -> Term:
    """Comparisons of all kinds."""
    field = draw(st.sampled_from(fields))
    operator = draw(st.sampled_from(FIELDS[field].kind.operators))
    name = f"{field}.{draw(st.sampled_from(KEYS))}" if FIELDS[field].keyed else field
    if operator in {Operator.LIKE, Operator.UNLIKE}:
        return term(name, operator, draw(st.sampled_from(PATTERNS)))
    fitting = [value for value in VALUES[field] if fits(name, operator, value)]
    most = 4 if operator is Operator.IN else 1
    return term(name, operator, *draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=most)))


def fits(name: str, operator: str, value: str) -> bool:
    """Say whether the field can be compared so with the value."""
    try:
        term(name, operator, value)
    except ValueError:
        return False
    return True


def filters(fields: tuple[str, ...] = tuple(FIELDS)) -> st.SearchStrategy[Filter]:
    """Filters of some depth, such as ``parse`` makes."""
    return st.recursive(
        terms(fields),
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.lists(inner, min_size=2, max_size=4).map(lambda parts: And(tuple(parts))),
            st.lists(inner, min_size=2, max_size=4).map(lambda parts: Or(tuple(parts))),
        ),
        max_leaves=8,
    )
