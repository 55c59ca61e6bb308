"""Which taps a domain has, out of the XML that libvirt keeps of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.inventory.domains import DefinitionError, taps_of
from serai.model.inventory import Mac


def domain(*interfaces: str, name: str = "<name>web</name>") -> str:
    return f"<domain type='kvm' id='3'>{name}<devices><disk/>{''.join(interfaces)}</devices></domain>"


def interface(mac: str | None = "52:54:00:00:00:01", tap: str | None = "vnet0", kind: str = "bridge") -> str:
    address = f"<mac address='{mac}'/>" if mac is not None else ""
    target = f"<target dev='{tap}'/>" if tap is not None else ""
    return f"<interface type='{kind}'>{address}<source bridge='br0'/>{target}<model type='virtio'/></interface>"


ONE = {"vnet0": Mac("52:54:00:00:00:01")}

CASES = {
    "one tap": (domain(interface()), ONE),
    "two taps": (
        domain(interface(), interface("52:54:00:00:00:02", "vnet7")),
        ONE | {"vnet7": Mac("52:54:00:00:00:02")},
    ),
    "no devices": ("<domain><name>web</name></domain>", {}),
    "no interfaces": (domain(), {}),
    "a MAC in capitals": (domain(interface("52:54:00:00:00:AB")), {"vnet0": Mac("52:54:00:00:00:ab")}),
    "not started yet: no tap has a name": (domain(interface(tap=None)), {}),
    "an empty name": (domain(interface(tap="")), {}),
    "an interface without a MAC": (domain(interface(mac=None)), {}),
    "a tap that libvirt does not make itself": (domain(interface(kind="ethernet")), ONE),
    "interfaces elsewhere than among the devices": (
        f"<domain><name>web</name><metadata>{interface()}</metadata></domain>",
        {},
    ),
    "other things have targets too": (domain("<disk><target dev='vda'/></disk>", interface()), ONE),
    "a declaration and comments": (f"<?xml version='1.0'?><!-- made by hand -->{domain(interface())}", ONE),
}


@pytest.mark.parametrize("case", CASES)
def test_taps(case: str) -> None:
    definition, taps = CASES[case]
    assert taps_of(definition) == ("web", taps)


def test_the_name_is_taken_as_it_is() -> None:
    assert taps_of(domain(name="<name>a &amp; b é</name>")) == ("a & b é", {})


REFUSED = {
    "nothing": "",
    "no XML": "web",
    "cut": domain(interface())[:-5],
    "another root": "<network><name>web</name></network>",
    "no name": domain(name=""),
    "an empty name": domain(name="<name/>"),
    "a MAC without an address": domain("<interface><mac/><target dev='vnet0'/></interface>"),
    "a MAC that is none": domain(interface("52:54:00")),
    "a group address": domain(interface("01:00:5e:00:00:01")),
    "a zero address": domain(interface("00:00:00:00:00:00")),
    "an entity that is not defined": domain(name="<name>&web;</name>"),
    "a file from outside": "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>" + domain(name="<name>&e;</name>"),
    "a lone surrogate": domain(name="<name>\ud800</name>"),
    "a zero byte": domain(name="<name>a\0b</name>"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_domain_is_refused(case: str) -> None:
    with pytest.raises(DefinitionError, match="not the XML of a domain"):
        taps_of(REFUSED[case])


@given(st.text())
def test_random_text_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError):
        taps_of(text)


macs = st.binary(min_size=6, max_size=6).filter(lambda raw: not raw[0] & 1 and any(raw)).map(lambda raw: raw.hex(":"))
names = st.from_regex(r"[A-Za-z0-9_.-]{1,15}", fullmatch=True)


@given(st.dictionaries(names, macs))
def test_every_named_tap_is_found(taps: dict[str, str]) -> None:
    definition = domain(*(interface(mac, tap) for tap, mac in taps.items()))
    assert taps_of(definition) == ("web", {tap: Mac(mac) for tap, mac in taps.items()})
