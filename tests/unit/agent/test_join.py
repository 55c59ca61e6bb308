"""A host joins and renews over real HTTPS: whom it believes, what it keeps, and what a crash in between leaves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from credentials import Site, now
from frontdoor import FrontDoor, front_door
from serai.agent.identity import Addresses, Identity, IdentityError
from serai.agent.join import JoinError, join
from serai.agent.link.events import Memory
from serai.agent.link.memory import MemoryFile, MemoryFileError
from serai.agent.renew import RenewError, renew
from serai.wire.pki import ca_hash

AGENTS = ["wss://localhost:8744"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("join-site"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("join-foreign"))


def files(state: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (state / "identity").glob("*")}


class TestJoin:
    def test_a_host_joins_with_a_token(self, site: Site, tmp_path: Path) -> None:
        with front_door(site, AGENTS) as door:
            told = join(door.url + "/", door.token("a") + "\n", tmp_path, "a")
        joined = Identity(tmp_path / "identity").read()
        assert joined.certificate == told
        assert told.host == "a"
        assert joined.addresses == Addresses(controllers=[door.url], agents=AGENTS)
        assert ca_hash(Identity(tmp_path / "identity").ca()) == ca_hash(site.keys.authority.pem)
        assert files(tmp_path).keys() == {"host.key", "host.pem", "ca.pem", "controllers.json"}
        assert (tmp_path / "identity/host.key").stat().st_mode & 0o777 == 0o600
        Identity(tmp_path / "identity").context()

    def test_a_token_is_good_once(self, site: Site, tmp_path: Path) -> None:
        with front_door(site, AGENTS) as door:
            token = door.token("a")
            join(door.url, token, tmp_path, "a")
            before = files(tmp_path)
            with pytest.raises(JoinError, match="used before"):
                join(door.url, token, tmp_path, "a")
        assert {name: before[name] for name in ("host.key", "host.pem")} == {
            name: files(tmp_path)[name] for name in ("host.key", "host.pem")
        }
        Identity(tmp_path / "identity").read()

    def test_another_controller_hears_nothing_of_the_token(self, site: Site, foreign: Site, tmp_path: Path) -> None:
        with front_door(site) as door, front_door(foreign) as other:
            with pytest.raises(JoinError, match=r"another controller .* or somebody is in between"):
                join(other.url, door.token("a"), tmp_path, "a")
            assert other.asked == ["/v1/ca"]
        assert not (tmp_path / "identity").exists()

    def test_nor_does_somebody_in_between_who_shows_the_right_authority(
        self, site: Site, foreign: Site, tmp_path: Path
    ) -> None:
        with front_door(foreign) as between:
            between.ca = site.keys.authority.pem
            with front_door(site) as door, pytest.raises(JoinError, match="another site, or somebody is in between"):
                join(between.url, door.token("a"), tmp_path, "a")
            assert between.asked == ["/v1/ca"]

    def test_the_names_must_agree(self, site: Site, tmp_path: Path) -> None:
        with front_door(site) as door:
            with pytest.raises(JoinError, match="is for host b"):
                join(door.url, door.token("b"), tmp_path, "a")
            assert len(door.tokens) == 1  # it can still be used
            door.sent_host = "b"
            with pytest.raises(JoinError, match="this host is called a"):
                join(door.url, door.token("a"), tmp_path, "a")
        assert not Identity(tmp_path / "identity").joined

    @pytest.mark.parametrize("url", ["http://localhost:1", "localhost:1", "https://localhost:1", "https://[::zz]:1"])
    def test_who_cannot_be_reached_is_told(self, site: Site, tmp_path: Path, url: str) -> None:
        token = FrontDoor(site, []).token("a")
        with pytest.raises(JoinError, match=r"no address of a controller|cannot be reached"):
            join(url, token, tmp_path, "a")

    def test_what_is_no_token_is_told_first(self, tmp_path: Path) -> None:
        with pytest.raises(JoinError, match="no join token"):
            join("https://localhost:1", "serai1.x", tmp_path, "a")

    def test_what_is_no_controller_is_told(self, site: Site, tmp_path: Path) -> None:
        with front_door(site) as door:
            token = door.token("a")
            door.ca = "hello"
            with pytest.raises(JoinError, match="shows no authority"):
                join(door.url, token, tmp_path, "a")

    def test_another_site_is_another_history(self, site: Site, foreign: Site, tmp_path: Path) -> None:
        memory = MemoryFile(tmp_path / "link.json")
        memory.write(Memory(term=9))
        with front_door(site, AGENTS) as door, front_door(foreign, AGENTS) as other:
            join(door.url, door.token("a"), tmp_path, "a")
            assert memory.read() == Memory(term=9)
            join(door.url, door.token("a"), tmp_path, "a")
            assert memory.read() == Memory(term=9)
            join(other.url, other.token("a"), tmp_path, "a")
        assert memory.read() == Memory()
        Identity(tmp_path / "identity").read()


class TestRenew:
    def make(self, site: Site, name: str, age: timedelta) -> Identity:
        return Identity(site.identity(name, age=age))

    @pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=25), timedelta(days=30, hours=23)])
    def test_an_old_certificate_brings_the_next(self, site: Site, age: timedelta) -> None:
        identity = self.make(site, "a", age)
        before = identity.read().certificate
        with front_door(site, AGENTS) as door:
            door.know("a")
            told = asyncio.run(renew(identity, "a", ["https://localhost:1", door.url]))
        assert identity.read().certificate == told
        assert told.key != before.key
        assert told.until > now()
        assert identity.read().addresses.agents == AGENTS

    def test_one_that_is_too_old_does_not(self, site: Site) -> None:
        self.refused(site, "old", timedelta(days=32), "join it again")

    def test_nor_one_of_a_revoked_host(self, site: Site) -> None:
        self.refused(site, "revoked", timedelta(days=2), "is revoked")

    def test_nor_one_whose_key_is_not_on_record(self, site: Site) -> None:
        self.refused(site, "stale", timedelta(days=2), "another key")

    def refused(self, site: Site, name: str, age: timedelta, why: str) -> None:
        identity = self.make(site, name, age)
        before = identity.read()
        with front_door(site, AGENTS) as door:
            door.know(name)
            if name == "stale":
                door.keys[name] = bytes(32)
            door.revoked = {"revoked"}
            with pytest.raises(RenewError, match=why) as told:
                asyncio.run(renew(identity, name, [door.url]))
            assert told.value.refused
        assert identity.read() == before

    def test_nobody_there_is_no_refusal(self, site: Site) -> None:
        identity = self.make(site, "a", timedelta(0))
        with pytest.raises(RenewError, match="localhost:1") as told:
            asyncio.run(renew(identity, "a", ["https://localhost:1"]))
        assert not told.value.refused
        with pytest.raises(RenewError, match="no controller"):
            asyncio.run(renew(identity, "a", []))

    def test_another_site_is_not_asked(self, site: Site, foreign: Site) -> None:
        identity = self.make(site, "a", timedelta(0))
        with front_door(foreign) as other:
            with pytest.raises(RenewError, match="another site"):
                asyncio.run(renew(identity, "a", [other.url]))
            assert other.asked == []

    def test_an_answer_that_is_lost_locks_nobody_out(self, site: Site) -> None:
        identity = self.make(site, "a", timedelta(days=2))
        with front_door(site, AGENTS) as door:
            door.know("a")
            door.lose_answer = True
            with pytest.raises(RenewError):
                asyncio.run(renew(identity, "a", [door.url]))
            assert door.keys["a"] != identity.read().certificate.key
            door.lose_answer = False
            asyncio.run(renew(identity, "a", [door.url]))
            assert door.keys["a"] == identity.read().certificate.key


class TestIdentity:
    def renewed(self, site: Site, name: str) -> tuple[Identity, Path, str]:
        directory = site.identity(name)
        identity = Identity(directory)
        return identity, directory, site.keys.authority.sign_host(identity.request(name), name, now())

    @pytest.mark.parametrize("done", [0, 1])
    def test_a_crash_while_one_replaces_the_other_is_mended(self, site: Site, done: int) -> None:
        identity, directory, certificate = self.renewed(site, f"crash{done}")
        (directory / "host.pem.next").write_text(certificate)
        if done:
            (directory / "host.key.next").replace(directory / "host.key")
        assert identity.read().certificate.until > now()
        assert (directory / "host.pem").read_text() == certificate
        assert sorted(file.name for file in directory.iterdir()) == ["ca.pem", "host.key", "host.pem"]

    def test_what_fits_no_key_is_dropped(self, site: Site) -> None:
        identity, directory, _ = self.renewed(site, "stray")
        before = (directory / "host.pem").read_text()
        (directory / "host.pem.next").write_text((site.identity("stray2") / "host.pem").read_text())
        identity.read()
        assert (directory / "host.pem").read_text() == before

    def test_a_request_is_made_again_for_the_same_key_until_it_is_answered(self, site: Site) -> None:
        identity, directory, certificate = self.renewed(site, "again")
        key = (directory / "host.key.next").read_bytes()
        identity.request("again")
        assert (directory / "host.key.next").read_bytes() == key
        identity.install(certificate, "again")
        assert (directory / "host.key").read_bytes() == key
        identity.request("again")
        assert (directory / "host.key.next").read_bytes() != key

    def test_what_is_not_for_this_host_and_key_is_not_installed(self, site: Site, foreign: Site) -> None:
        identity, _directory, certificate = self.renewed(site, "mine")
        before = identity.read()
        csr = identity.request("mine")
        others = [
            site.keys.authority.sign_host(csr, "other", now()),
            foreign.keys.authority.sign_host(csr, "mine", now()),
            (site.identity("mine2") / "host.pem").read_text(),
            "nonsense",
        ]
        for other in others:
            with pytest.raises(IdentityError, match="cannot be used"):
                identity.install(other, "mine")
        assert identity.read() == before
        identity.install(certificate, "mine")

    @pytest.mark.parametrize("name", ["host.key", "host.pem", "ca.pem", "controllers.json"])
    def test_what_is_damaged_is_told(self, site: Site, name: str) -> None:
        directory = site.identity("damaged")
        (directory / name).write_bytes(b"\xff\x00")
        with pytest.raises(IdentityError, match="join it again"):
            Identity(directory).read()

    def test_a_key_that_others_may_read_is_not_used(self, site: Site) -> None:
        directory = site.identity("loose")
        (directory / "host.key").chmod(0o644)
        with pytest.raises(IdentityError, match="chmod 600"):
            Identity(directory).read()


def test_a_damaged_memory_is_not_taken_for_none(tmp_path: Path) -> None:
    memory = MemoryFile(tmp_path / "link.json")
    assert memory.read() == Memory()
    memory.write(Memory(term=3, epoch=2, checkpoint="x"))
    assert memory.read() == Memory(term=3, epoch=2, checkpoint="x")
    (tmp_path / "link.json").write_bytes(msgspec.json.encode({"term": "x"}))
    with pytest.raises(MemoryFileError, match="remove it"):
        memory.read()
    memory.forget()
    assert memory.read() == Memory()
