import itertools
import time

import pytest
from filters import VALUES, filters
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.analysis.filter import (
    DEEPEST,
    EVERYTHING,
    FIELDS,
    LONGEST,
    And,
    Filter,
    FilterError,
    Not,
    Operator,
    Or,
    Term,
    clause,
    parse,
    term,
)

WORDS = [
    "vm",
    "=",
    "web-1",
    "and",
    "or",
    "not",
    "in",
    "(",
    ")",
    ",",
    "!",
    "&&",
    "||",
    "~",
    "'a b'",
    "<",
    "bytes",
    "1M",
    "label.tier",
    "'",
]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("vm=web-1 and dport=443 and verdict=denied", "vm=web-1 and service=443 and verdict=denied"),
        ("not (protocol=udp or service=tcp/22) and bytes>1M", "not (protocol=udp or service=tcp/22) and bytes>1M"),
        ("label.tier = db", "label.tier=db"),
        ("peer.label.app in (shop,pay)", "peer.label.app in (shop, pay)"),
        ("remote=10.1.2.3/8", "remote=10.0.0.0/8"),
        ("vm~web-*", "vm~web-*"),
        ("vm!=a&&vm!~b*", "vm!=a and vm!~b*"),
        ("!vm=a || !(vm=b)", "not vm=a or not vm=b"),
        ("vm=a or vm=b and vm=c", "vm=a or vm=b and vm=c"),
        ("(vm=a or vm=b) and vm=c", "(vm=a or vm=b) and vm=c"),
        ("vm=a and (vm=b and (vm=c))", "vm=a and vm=b and vm=c"),
        ("not not vm=a", "not not vm=a"),
        ("vm not in (a, b)", "not vm in (a, b)"),
        ("vm in (a, a)", "vm=a"),
        ("VM==web-1 AND Label.Tier=db", "vm=web-1 and label.Tier=db"),
        (
            "host='and' or host=\"it's\" or host='it''s' or host='a b'",
            'host="and" or host="it\'s" or host="it\'s" or host="a b"',
        ),
        ('host=""', 'host=""'),
        (
            "bytes>=1024 or bytes<1.5k or bytes=2Gi or bytes=1MB",
            "bytes>=1024 or bytes<1500 or bytes=2147483648 or bytes=1M",
        ),
        ("rtt>0.01s or age<=24h or age<90m", "rtt>10ms or age<=1d or age<90m"),
        ("protocol=6 or protocol=47 or proto=TCP", "protocol=tcp or protocol=47 or protocol=tcp"),
        ("service in (tcp/0-65535, 80-80, icmp/8, icmp/8.0)", "service in (tcp, 80, icmp/8, icmp/8.0)"),
        ("source=10.0.0.1/32 or destination=2001:DB8::/32", "src=10.0.0.1 or dst=2001:db8::/32"),
        ("refused=YES and begins=no", "refused=yes and begins=no"),
        ("vnic=0x1F", "vnic=0x1f"),
        ("tenant=''", 'tenant=""'),
        ("label.android=orange", "label.android=orange"),
        (" \n\t", ""),
    ],
)
def test_filters_have_one_canonical_text(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


def test_what_a_filter_is_read_as() -> None:
    assert parse("vm=a or not host=b and bytes>1k") == Or(
        (
            Term("vm", Operator.EQUAL, ("a",)),
            And((Not(Term("host", Operator.EQUAL, ("b",))), Term("bytes", Operator.MORE, (1000,)))),
        )
    )
    assert parse("") == EVERYTHING


@given(what=filters())
def test_the_text_of_a_filter_reads_as_the_same(what: Filter) -> None:
    assert parse(str(what)) == what
    assert str(parse(str(what))) == str(what)


@pytest.mark.parametrize("field", FIELDS)
def test_each_value_is_read_as_it_is_written(field: str) -> None:
    assert VALUES[field]
    for text in VALUES[field]:
        name = f"{field}.tier" if FIELDS[field].keyed else field
        for operator in FIELDS[field].kind.operators:
            try:
                made = term(name, operator, text)
            except ValueError:
                continue
            assert parse(str(made)) == made


@pytest.mark.parametrize(
    ("text", "spot", "said"),
    [
        ("vm=web-1 and dprot=443", "dprot", "there is no field 'dprot': did you mean 'dport'?"),
        ("vm=web-1 and zzz=443", "zzz", "there is no field 'zzz'"),
        ("labels.tier=db", "labels", "there is no field 'labels.tier': did you mean"),
        ("label=db", "label", "'label' needs the key of a label, as in label.tier"),
        ("vm=a vm=b", "vm=b", "write 'and' or 'or' between two comparisons"),
        ("vm=a 'b'", "'b'", "write 'and' or 'or' between"),
        ("vm=a (vm=b)", "(", "write 'and' or 'or' between"),
        ("vm=a not vm=b", "not", "write 'and' or 'or' between"),
        ("web-1", "web-1", "this is no comparison: write a field, an operator and a value, such as vm=web-1"),
        ("vm=a and web-1 and vm=b", "web-1", "this is no comparison"),
        ("vm and host=a", "and", "behind 'vm' an operator is expected: one of =, !=, in, ~, !~"),
        ("bytes ", "", "behind 'bytes' an operator is expected: one of =, !=, <, <=, >, >="),
        ("bytes~1", "~", "'bytes' is compared by =, !=, <, <=, >, >=, not by ~"),
        ("bytes in (1, 2)", "bytes", "'bytes' is compared by =, !=, <, <=, >, >=, not by in"),
        ("vm=", "", "here a value is expected"),
        ("vm= and host=a", "and", "'and' is a word of the language: put it in quotes"),
        ("vm=(a, b)", "(", "here a value is expected: a list stands behind in"),
        ("vm in a", "a", "here a list is expected, such as (web-1, web-2)"),
        ("vm in", "", "here a list is expected"),
        ("vm in ()", ")", "here a value is expected"),
        ("vm in (a b)", "b)", "here a comma is expected, or the ) that ends the list"),
        ("vm in (a, b", "(", "this ( is not closed"),
        ("vm=a, b", ",", "a comma stands in lists only"),
        ("vm=a=b", "=b", "a comparison has one operator: put a value that holds such characters in quotes"),
        ("vm not", "", "here 'in' and a list are expected"),
        ("(vm!", "", "here 'in' and a list are expected"),
        ("vm not a", "a", "here 'in' and a list are expected"),
        ("(vm=a or (vm=b)", "(vm=a", "this ( is not closed"),
        ("vm=a)", ")", "there is no ( for this )"),
        ("and vm=a", "and", "here a comparison is expected, such as vm=web-1"),
        ("vm=a and", "", "here a comparison is expected"),
        ("not", "", "here a comparison is expected"),
        ("vm=a & vm=b", "&", "write &&, or put it in quotes"),
        ("vm=a | vm=b", "|", "write ||, or put it in quotes"),
        ("host='a", "'a", "this quote is not closed"),
        ("vm=Web_1", "Web", "'Web_1' is no VM: write a name, such as web-1, or a path, such as /acme/shop:web-1"),
        ("vm=web-*", "web-*", "'web-*' is a pattern: compare it with ~"),
        ("vm~''", "''", "a pattern is not empty"),
        ("scope=acme", "acme", "'acme' is not a scope"),
        ("tenant=/acme", "/acme", "'/acme' is no tenant"),
        ("network=A", "A", "'A' is no network"),
        ("vnic=web-1", "web-1", "'web-1' is no vNIC"),
        ("remote=10.0.0", "10", "'10.0.0' is no address and no prefix: write 10.0.0.11, 10.0.0.0/8 or 2001:db8::/32"),
        ("remote=10.0.0.0/33", "10", "'10.0.0.0/33' is no address and no prefix"),
        ("remote=::ffff:10.0.0.1", "::", "'::ffff:10.0.0.1' is an IPv4 address in disguise: write 10.0.0.1"),
        ("src=::ffff:10.0.0.1", "::", "an IPv4 address in disguise"),
        ("dst=1.2.3", "1.2.3", "'1.2.3' is no VM and no address"),
        ("port=65536", "65536", "'65536' is no port: write 443, or 8000-8099"),
        ("dport=ssh", "ssh", "'ssh' is no service: write tcp/443, 443, 8000-8099, udp or icmp/8.0"),
        ("dport=tcp/99999", "tcp", "ports go from 0 to 65535"),
        ("dport>tcp/443", "tcp", "'tcp/443' has no order: compare a port, such as 1024"),
        ("port<80-90", "80-90", "'80-90' has no order"),
        ("protocol=tpc", "tpc", "'tpc' is no protocol: did you mean 'tcp'?"),
        ("protocol=256", "256", "a number from 0 to 255"),
        ("verdict=dropped", "dropped", "'dropped' is not known here: write one of accepted, denied, observed"),
        ("reason=foregn_ip", "foregn", "'foregn_ip' is not known here: did you mean 'foreign_ip'?"),
        ("bytes>much", "much", "'much' is no number: write 1500, 20k, 1.5M (millions), 2Gi (times 1024^3)"),
        ("bytes>0.5", "0.5", "'0.5' is no number"),
        ("bytes>18446744073709551616", "184", "is no number"),
        ("rtt>10", "10", "'10' is no span of time: write 500us, 10ms, 2.5s, 5m, 2h or 1d"),
        ("refused=maybe", "maybe", "'maybe' is neither yes nor no"),
        ("host=a\\b", "a\\b", "a value has no backslashes"),
        ("host='a\tb'", "'a", "a value has no backslashes and no characters that cannot be seen"),
        ("host=" + "x" * 501, "x" * 501, "a value has at most 500 characters"),
    ],
)
def test_errors_show_the_spot_and_say_what_was_expected(text: str, spot: str, said: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    error = caught.value
    assert (error.text, error.position) == (text, text.rindex(spot) if spot else len(text.rstrip()))
    assert said in error.message


def test_an_error_shows_itself() -> None:
    with pytest.raises(FilterError) as caught:
        parse("vm=web-1 and dprot=443")
    assert str(caught.value).splitlines() == [
        "vm=web-1 and dprot=443",
        "             ^ there is no field 'dprot': did you mean 'dport'?",
    ]


def test_an_error_in_a_long_filter_shows_what_is_near() -> None:
    text = "vm=web-1 and " * 20 + "dprot=443" + " and vm=web-1" * 20
    with pytest.raises(FilterError) as caught:
        parse(text)
    shown, below = str(caught.value).splitlines()
    assert len(shown) < 120
    assert shown.startswith("...")
    assert shown.endswith("...")
    assert shown[below.index("^") :].startswith("dprot=443")


def test_an_error_writes_nothing_odd_to_a_terminal() -> None:
    with pytest.raises(FilterError) as caught:
        parse("vm=a and\n\x1b[31mx='\x07'")
    assert all(line.isprintable() for line in str(caught.value).split("\n"))


# Bounds


def test_filters_are_not_too_long() -> None:
    longest = "vm=a or " * (LONGEST // 8 - 1) + "vm=abcde"
    assert len(longest) == LONGEST
    assert str(parse(longest)) == longest
    with pytest.raises(FilterError, match="a filter has at most 2000 characters, this one has 2001"):
        parse("x" * (LONGEST + 1))
    with pytest.raises(FilterError, match="written out, this filter has more than 2000 characters"):
        parse("||".join(["dst=::"] * 249))


@pytest.mark.parametrize("level", ["(", "not ", "!", "not ("])
def test_filters_are_not_too_deep(level: str) -> None:
    levels = DEEPEST // (2 if level == "not (" else 1)
    end = ")" if "(" in level else ""
    assert parse(level * levels + "vm=a" + end * levels)
    with pytest.raises(FilterError, match="a filter is at most 32 parentheses and 'not' deep") as caught:
        parse(level * (levels + 1) + "vm=a" + end * (levels + 1))
    assert caught.value.position >= levels


def test_many_shallow_parts_are_not_deep() -> None:
    assert parse(" or ".join(["(not (vm=a))"] * 100))


def parsed(text: str) -> tuple[Filter | None, FilterError | None]:
    try:
        return parse(text), None
    except FilterError as error:
        return None, error


@settings(max_examples=1000)
@given(
    text=st.one_of(
        st.text(max_size=100),
        st.text(alphabet="vmruleb~=!<>*?'\"\\ ()\t\n\x00,and.oin0&|", max_size=40),
        st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join),
        st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join),
        st.lists(st.sampled_from([*WORDS, *FIELDS]), max_size=30).map("".join),
    )
)
def test_every_text_is_a_filter_or_an_error(text: str) -> None:
    what, error = parsed(text)
    if what is not None:
        assert parse(str(what)) == what
        assert clause(what).sql
    if error is not None:
        assert 0 <= error.position <= len(text)
        assert "\n" not in error.message
        assert error.text == text


@pytest.mark.parametrize(
    "text",
    ["'" * LONGEST, "(" * LONGEST, "not " * 500, "vm in (" + "a," * 990, "vm=a " * 400, '"' + '""' * 999, "&" * LONGEST, "x" * LONGEST,
     "!" * LONGEST, "bytes=" + "9" * 1990, "remote=" + ":" * 1990, "rule~" + "*" * 490, "<" * LONGEST, "dprot" * 400,
     "vm=a or " * 249 + "vm=a", "remote=1/" + "9" * 1900],
)  # fmt: skip
def test_the_worst_texts_are_done_soon(text: str) -> None:
    began = time.process_time()
    what, error = parsed(text)
    assert clause(what).sql if what else str(error)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_order_of_words_is_a_filter_or_an_error(length: int) -> None:
    words = ["vm", "=", "1", "'a'", "and", "or", "not", "in", "(", ")", ","]
    for order in itertools.product(words, repeat=length):
        what, error = parsed(" ".join(order))
        assert (what is None) != (error is None)
        assert error is None or "something" not in error.message


# Filters that programs make


def test_programs_make_filters_out_of_texts() -> None:
    assert term("scope", "=", "/acme") == parse("scope=/acme")
    assert term("dport", "in", "443", "tcp/22") == parse("service in (443, tcp/22)")


@pytest.mark.parametrize(
    ("field", "operator", "value", "said"),
    [
        ("dprot", "=", "1", "there is no field 'dprot'"),
        ("vm", "?", "a", "not a valid Operator"),
        ("vm", "<", "a", "'vm' is not compared by <"),
        ("vm", "=", "A", "'A' is no VM"),
    ],
)
def test_programs_make_no_filters_out_of_other_texts(field: str, operator: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        term(field, operator, value)


def test_conditions_are_put_together() -> None:
    own, asked = Or((term("scope", "=", "/acme"), term("peer.scope", "=", "/acme"))), parse("vm=a and host=b")
    assert str(And((own, asked))) == "(scope=/acme or peer.scope=/acme) and vm=a and host=b"
    assert And((EVERYTHING, asked)) == asked
    assert clause(Or(())).sql == "0"
    assert clause(EVERYTHING).sql == "1"
