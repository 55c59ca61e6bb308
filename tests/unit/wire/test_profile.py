"""Which controller people talk to."""

from __future__ import annotations

from pathlib import Path

import pytest

from serai.wire.profile import Profile, ProfileError, find, user_file


def test_the_environment_counts_more_than_files(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    system = tmp_path / "system.toml"
    with pytest.raises(ProfileError, match="run `serai login URL`"):
        find(home, system)
    Profile(url="https://system:8743", token="s").write(system)  # noqa: S106
    assert find(home, system).url == "https://system:8743"
    Profile(url="https://own:8743", token="o", ca=tmp_path / "ca.pem").write(user_file(home))  # noqa: S106
    found = find(home, system)
    assert (found.url, found.token, found.ca) == ("https://own:8743", "o", tmp_path / "ca.pem")
    assert found.origin == str(user_file(home))
    assert find({**home, "SERAI_TOKEN": "e"}, system).token == "e"  # noqa: S105
    assert find({**home, "XDG_CONFIG_HOME": str(tmp_path / "none")}, system).url == "https://system:8743"


def test_a_token_goes_to_the_controller_that_it_was_kept_for(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    Profile(url="https://own:8743", token="o", ca=tmp_path / "ca.pem").write(user_file(home))  # noqa: S106
    other = find({**home, "SERAI_URL": "https://other:8743"}, tmp_path / "none")
    assert (other.token, other.ca) == (None, None)
    same = find({**home, "SERAI_URL": "https://own:8743/"}, tmp_path / "none")
    assert same.token == "o"  # noqa: S105


def test_what_is_kept_is_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "new/client.toml"
    Profile(url='https://a:1"\n', token="tö\\ken").write(file)  # noqa: S106
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o077 == 0
    assert [each.name for each in file.parent.iterdir()] == ["client.toml"]
    found = find({"HOME": str(tmp_path)}, file)
    assert (found.url, found.token) == ('https://a:1"\n', "tö\\ken")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = 1", "url is no text"),
        ("token = 't'", "url is missing"),
        ("urk = 'x'", "urk is not known"),
        ("url =", "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "client.toml"
    file.write_text(text)
    with pytest.raises(ProfileError, match=said):
        find({"HOME": str(tmp_path)}, file)


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text("url = 'https://a'\ntoken = 't'\n")
    file.chmod(0o644)
    with pytest.raises(ProfileError, match="chmod 600"):
        find({"HOME": str(tmp_path)}, file)


def test_a_ca_stands_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text("url = 'https://a'\nca = 'ca.pem'\n")
    assert find({"HOME": str(tmp_path)}, file).ca == tmp_path / "ca.pem"


def test_there_must_be_a_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="cannot be written"):
        Profile(url="https://a").write(tmp_path / "file/client.toml")
