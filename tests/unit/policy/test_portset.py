"""The algebra of ports, against sets of single ports."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.ports import parse_ports
from serai.policy.questions.portset import EVERYTHING, NOTHING, PortSet, atoms, opened

PORTS = (0, 22, 23, 53, 80, 443, 1023, 1024, 2048, 8080, 32768, 65535)
SAMPLES = [(p, port) for p in (6, 17, 132) for port in (*PORTS, 5, 1000)] + [(1, 2048), (50, 0), (0, 0), (255, 0)]
port_ranges = st.one_of(
    st.builds(
        lambda protocol, ends: PortRange(protocol=protocol, first=min(ends), last=max(ends)),
        st.sampled_from((6, 17, 132, 1, 58)),
        st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)),
    ),
    st.builds(PortRange, protocol=st.sampled_from((50, 255, ANY_PROTOCOL))),
)
sets = st.lists(port_ranges, min_size=1, max_size=4).map(lambda ranges: opened(ranges, 4))


def members(of: PortSet) -> set[tuple[int, int]]:
    return {service for service in SAMPLES if service in of}


@given(sets, sets)
def test_it_is_the_algebra_of_sets(one: PortSet, other: PortSet) -> None:
    assert members(one & other) == members(one) & members(other)
    assert members(one | other) == members(one) | members(other)
    assert members(one - other) == members(one) - members(other)


@given(sets, sets)
def test_equal_sets_are_equal_values(one: PortSet, other: PortSet) -> None:
    assert (one | other) - other == one - other
    assert (one & other) | (one - other) == one
    assert one - one == NOTHING
    assert not one - one
    assert one | (EVERYTHING - one) == EVERYTHING


@given(st.lists(port_ranges, min_size=1, max_size=4))
def test_it_holds_what_its_ranges_do(ranges: list[PortRange]) -> None:
    held = {(p, port) for p, port in SAMPLES if any(r.contains(p, port) for r in ranges)}
    assert members(opened(ranges, 4)) == held


@given(sets)
def test_what_is_written_means_the_set(one: PortSet) -> None:
    said, but = (
        opened([ports for text in texts if (ports := parse_ports(text))], 4) if texts else NOTHING
        for texts in (one.texts([4]), one.exceptions([4]))
    )
    assert said - but == one


@given(sets)
def test_an_example_is_in_the_set(one: PortSet) -> None:
    if one:
        assert one.example(4) in one


@given(st.lists(sets, unique=True, max_size=5))
def test_atoms_make_up_every_set(several: list[PortSet]) -> None:
    cut = atoms(several)
    for number, one in enumerate(several):
        whole = NOTHING
        for bits, part in cut.items():
            assert part
            if bits >> number & 1:
                assert not whole & part
                whole |= part
            else:
                assert not one & part
        assert whole == one


def test_of_icmp_only_the_echo_request_of_the_version_opens_anything() -> None:
    both = [PortRange(protocol=1, first=2048, last=2303), PortRange(protocol=58, first=32768, last=33023)]
    unreachable = [PortRange(protocol=1, first=768, last=1023)]
    assert opened(both, 4) == opened(both, 6) != NOTHING
    assert opened(both, 4).texts([4, 6]) == ("icmp", "icmpv6")
    assert opened(both[:1], 6) == NOTHING == opened(unreachable, 4)
    assert opened(both, 6).example(6) == (58, 32768)
    assert opened([PortRange(protocol=ANY_PROTOCOL)], 6) == EVERYTHING


def test_an_example_is_one_that_people_know() -> None:
    assert opened([PortRange(protocol=6)], 4).example(4) == (6, 443)
    assert opened([PortRange(protocol=6, first=20, last=30)], 4).example(4) == (6, 22)
    assert opened([PortRange(protocol=6, first=0, last=9)], 4).example(4) == (6, 1)
    assert (EVERYTHING - opened([PortRange(protocol=p) for p in (6, 17, 132, 1)], 4)).example(4) == (50, 0)
