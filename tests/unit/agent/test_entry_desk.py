"""Domains that are about to run: what the controller is asked, and what is done when it says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from serai.agent.config import Alone
from serai.agent.definitions import Definitions
from serai.agent.digests import Booted
from serai.agent.entry import Desk
from serai.inventory.booting import Boot, boots_of
from serai.inventory.definition import digest_of
from serai.inventory.domains import DefinitionError
from serai.inventory.qemu_conf import forces_tls
from serai.wire import remote
from serai.wire.local import EnterReply
from serai.wire.remote import Card, Entering, Entry

XML = """<domain type='kvm'><name>web</name><devices>
<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/></interface>
<interface type='network'><mac address='52:54:00:00:00:02'/><source network='default'/></interface>
</devices></domain>"""
CARDS = [Card(mac="52:54:00:00:00:01", bridge="br0"), Card(mac="52:54:00:00:00:02")]
NOWHERE = Path("/dev/null/definitions")
YES = Entry(answers=1, vm="/acme:web", objections=[], warnings=["mind the gap"])
NO = Entry(answers=1, vm="/acme:web", objections=["host a does not carry the tag pci"], warnings=[])


class Controller:
    """Answers always the same."""

    def __init__(
        self, answer: Entry | None, *, joined: bool = True, alone: Alone = Alone.START, kept: Path = NOWHERE
    ) -> None:
        self.answer = answer
        self.insists = False
        self.asked: list[Entering] = []
        self.looked: list[tuple[Sequence[Boot], float]] = []
        self.desk = Desk(
            self._ask, self._look, Definitions(kept), joined=lambda: joined, encrypted=lambda: None, alone=alone
        )

    async def _ask(self, entering: Entering) -> Entry | None:
        self.asked.append(entering)
        if self.answer is not None and self.answer.look and entering.boots is not None and not self.insists:
            return YES
        return self.answer

    async def _look(self, boots: Sequence[Boot], seconds: float) -> list[Booted]:
        self.looked.append((boots, seconds))
        return [Booted(what="kernel", path="/k", sha256="ab" * 32), Booted(what="disk vda", path="/d", why="gone")]

    def enter(self, definition: str = XML, *, incoming: bool = False) -> EnterReply:
        return asyncio.run(self.desk.enter(definition, incoming=incoming))


@pytest.mark.parametrize("incoming", [True, False])
def test_the_controller_has_the_word(*, incoming: bool) -> None:
    controller = Controller(YES)
    assert controller.enter(incoming=incoming) == EnterReply(warnings=["mind the gap"])
    definition = bytes.fromhex(digest_of(XML))
    assert controller.asked == [Entering(number=1, domain="web", cards=CARDS, incoming=incoming, definition=definition)]
    assert controller.looked == [], "files are not touched unless it depends on them"
    assert Controller(NO).enter(incoming=incoming) == EnterReply(objections=["host a does not carry the tag pci"])


@pytest.mark.parametrize("incoming", [True, False])
def test_what_it_boots_from_is_looked_at_where_it_depends_on_that(*, incoming: bool) -> None:
    controller = Controller(Entry(answers=1, vm="/acme:web", objections=[], warnings=[], look=True))
    assert controller.enter(incoming=incoming) == EnterReply(warnings=["mind the gap"])
    assert controller.looked == [(boots_of(XML), 20.0)]
    first, again = controller.asked
    assert again == msgspec.structs.replace(
        first, number=2, boots=[remote.Boot(what="kernel", path="/k", digest=b"\xab" * 32), remote.Boot(what="disk vda", path="/d", why="gone")]
    )  # fmt: skip


def test_who_may_not_anyway_is_told_at_once_what_is_known() -> None:
    controller = Controller(msgspec.structs.replace(NO, look=True))
    controller.enter()
    [(boots, seconds)] = controller.looked
    assert boots == boots_of(XML)
    assert seconds < 1
    assert len(controller.asked) == 2


def test_who_is_another_machine_is_told_in_what_as_far_as_this_host_has_met_the_right_one(tmp_path: Path) -> None:
    right = bytes.fromhex(digest_of(XML))
    controller = Controller(msgspec.structs.replace(YES, definition=right), kept=tmp_path / "kept")
    changed = XML.replace("br0", "br1")
    controller.answer = msgspec.structs.replace(NO, definition=right)
    assert controller.enter(changed).objections == list(NO.objections), "nobody here knows the right one"
    controller.answer = msgspec.structs.replace(YES, definition=right)
    assert controller.enter().objections == []
    controller.answer = msgspec.structs.replace(NO, definition=right)
    assert controller.enter(changed).objections[1:] == [
        "against the definition that is registered, network card 52:54:00:00:00:01 is otherwise (source)"
    ]


def test_a_controller_that_asks_and_asks_lets_nobody_in() -> None:
    controller = Controller(Entry(answers=1, vm="/acme:web", objections=[], warnings=[], look=True))
    controller.insists = True
    assert controller.enter().objections == ["the controller does not say whether it may boot from its files"]
    assert len(controller.asked) == 2


def test_who_was_let_in_from_another_host_is_not_asked_about_again_when_it_is_prepared() -> None:
    controller = Controller(YES)
    controller.enter(incoming=True)
    controller.answer = NO
    assert controller.enter() == EnterReply(), "libvirt prepares it now"
    assert controller.enter().objections, "and starts it another day"


def test_who_was_sent_away_is_asked_about_again() -> None:
    controller = Controller(NO)
    controller.enter(incoming=True)
    assert controller.enter().objections
    assert [each.number for each in controller.asked] == [1, 2]


def test_while_nobody_answers_who_comes_waits_and_who_starts_may_as_the_host_says() -> None:
    assert "stays where it is" in Controller(None).enter(incoming=True).objections[0]
    may = Controller(None).enter()
    assert (may.objections, len(may.warnings)) == ([], 1)
    [veto] = Controller(None, alone=Alone.VETO).enter().objections
    assert "without_controller" in veto


def test_a_controller_that_cannot_say_is_as_one_that_does_not_answer_but_for_its_reason() -> None:
    unable = Entry(answers=1, vm="", objections=[], warnings=[], unable="the database does not answer")
    [why] = Controller(unable).enter(incoming=True).objections
    assert why == "the controller cannot say whether it may (the database does not answer): it stays where it is"
    may = Controller(unable).enter()
    assert (may.objections, may.warnings) == (
        [],
        ["the controller cannot say whether it may (the database does not answer)"],
    )
    [veto] = Controller(unable, alone=Alone.VETO).enter().objections
    assert "without_controller" in veto


def test_a_host_that_has_joined_no_site_asks_nobody() -> None:
    controller = Controller(NO, joined=False)
    assert controller.enter(incoming=True) == EnterReply()
    assert controller.asked == []


def test_nobody_asks_about_a_domain_without_cards() -> None:
    controller = Controller(NO)
    assert controller.enter("<domain><name>deaf</name></domain>") == EnterReply()
    assert controller.asked == []
    with pytest.raises(DefinitionError):
        controller.enter("<interface/>")


@pytest.mark.parametrize(
    ("text", "forced"),
    [
        ("migrate_tls_force = 1", True),
        ("user = 'root'\n  migrate_tls_force=1 # always\n", True),
        ("#migrate_tls_force = 1", False),
        ("migrate_tls_force = 0", False),
        ("migrate_tls_force = 10", False),
        (None, False),
    ],
)
def test_whether_nothing_comes_in_clear_stands_in_the_settings_of_libvirt(
    tmp_path: Path, text: str | None, *, forced: bool
) -> None:
    file = tmp_path / "qemu.conf"
    if text is not None:
        file.write_text(text)
    assert forces_tls(file) is forced
