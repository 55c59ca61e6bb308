"""A controller's directory of keys: what is made, what is kept, what is refused."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serai.wire.keys import Keys, KeysError
from serai.wire.pki import ca_hash, names_of, read_certificate
from serai.wire.private import PrivateFileError, read_private, write_private
from serai.wire.tls import TlsError, agents_context, host_context, pinned_context, server_context

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ["c1", "127.0.0.1"]


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_what_is_missing_is_made_and_what_is_there_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    keys = Keys.open(directory, names=NAMES, now=NOW)
    made = files(directory)
    assert made.keys() == {"ca.pem", "ca.key", "audit.key", "server.pem", "server.key"}
    for name in ("ca.key", "audit.key", "server.key"):
        assert (directory / name).stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    again = Keys.open(directory, names=NAMES, now=NOW + timedelta(days=100))
    assert files(directory) == made
    assert again.audit_signer().origin == keys.audit_signer().origin
    assert again.audit_signer().verify(b"x", keys.audit_signer().sign(b"x"))
    assert not again.audit_signer().verify(b"y", keys.audit_signer().sign(b"x"))
    for context in (
        server_context(keys.server, keys.server_key),
        agents_context(keys.server, keys.server_key, keys.ca),
        pinned_context(keys.authority.pem),
    ):
        assert isinstance(context, ssl.SSLContext)


def test_a_controllers_certificate_is_made_anew_when_half_over_or_renamed(tmp_path: Path) -> None:
    Keys.open(tmp_path, names=NAMES, now=NOW)
    first = files(tmp_path)
    Keys.open(tmp_path, names=NAMES, now=NOW + timedelta(days=183))
    second = files(tmp_path)
    assert first["server.pem"] != second["server.pem"]
    Keys.open(tmp_path, names=["c2"], now=NOW + timedelta(days=184))
    third = files(tmp_path)
    assert names_of(read_certificate(third["server.pem"].decode())) == {"c2"}
    assert first["ca.pem"] == third["ca.pem"]


def test_two_that_start_at_once_make_one_authority(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Keys.open(tmp_path / "keys", names=NAMES, now=NOW), range(4)))
    assert len({ca_hash(keys.authority.pem) for keys in opened}) == 1


@pytest.mark.parametrize("name", ["ca.key", "audit.key", "server.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_what_others_may_read_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    Keys.open(tmp_path, names=NAMES, now=NOW)
    (tmp_path / name).chmod(mode)
    with pytest.raises(KeysError, match=f"{name}.*chmod 600"):
        Keys.open(tmp_path, names=NAMES, now=NOW)


@pytest.mark.parametrize("name", ["ca.key", "ca.pem"])
def test_an_authority_that_is_half_gone_is_not_made_anew(tmp_path: Path, name: str) -> None:
    Keys.open(tmp_path, names=NAMES, now=NOW)
    (tmp_path / name).unlink()
    with pytest.raises(KeysError, match=f"{name} is gone"):
        Keys.open(tmp_path, names=NAMES, now=NOW)


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "audit.key", "server.key", "server.pem"])
def test_what_is_damaged_is_told(tmp_path: Path, name: str) -> None:
    Keys.open(tmp_path, names=NAMES, now=NOW)
    (tmp_path / name).write_bytes(b"\xff\x00")
    with pytest.raises(KeysError, match=r"cannot be used"):
        Keys.open(tmp_path, names=NAMES, now=NOW)


def test_an_authority_that_is_over_is_told(tmp_path: Path) -> None:
    Keys.open(tmp_path, names=NAMES, now=NOW)
    with pytest.raises(KeysError, match=r"ended on 2036"):
        Keys.open(tmp_path, names=NAMES, now=NOW + timedelta(days=3651))


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "x" / "secret"
    write_private(file, b"one")
    write_private(file, b"two")
    assert read_private(file) == b"two"
    assert [each.name for each in file.parent.iterdir()] == ["secret"]
    with pytest.raises(PrivateFileError, match="No such file"):
        read_private(tmp_path / "none")
    with pytest.raises(PrivateFileError, match="cannot be written"):
        write_private(file / "below", b"")


def test_contexts_tell_which_file_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"ca\.pem"):
        host_context(tmp_path / "a.pem", tmp_path / "a.key", tmp_path / "ca.pem")
    with pytest.raises(TlsError, match=r"a\.pem"):
        server_context(tmp_path / "a.pem", tmp_path / "a.key")
    with pytest.raises(TlsError, match="authority"):
        pinned_context("")
