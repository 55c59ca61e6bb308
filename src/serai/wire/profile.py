"""Which controller people and their tools talk to, and as whom."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SYSTEM: Final = Path("/etc/serai/client.toml")
"""What a controller that begins on this machine writes."""
_FIELDS: Final = ("url", "token", "ca")


class ProfileError(ValueError):
    """It is not known, or not plain, whom to talk to; the text says how to tell."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A controller, and who asks it."""

    url: str
    token: str | None = None
    ca: Path | None = None
    """The certificate of whoever vouches for the controller, in PEM; None: whom this machine trusts anyway."""
    origin: str = ""
    """Where this was read."""
    directory: Path | None = None
    """Where more about this controller may be kept."""

    def write(self, file: Path) -> None:
        """Keep this for the next time, for nobody else to read.

        Raises:
            ProfileError: there is no place for it.
        """
        values = {"url": self.url, "token": self.token, "ca": str(self.ca) if self.ca else None}
        # TOML's basic strings are JSON's, as far as these go.
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value is not None)
        try:
            keep(file, text)
        except OSError as error:
            raise ProfileError(f"{file} cannot be written: {error.strerror or error}") from error


def user_file(environment: Mapping[str, str]) -> Path:
    """Say where a person's own profile is kept."""
    base = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME", "/root")) / ".config")
    return Path(base) / "serai" / "client.toml"


def find(environment: Mapping[str, str], system: Path = SYSTEM) -> Profile:
    """Find out whom to talk to: from SERAI_URL, SERAI_TOKEN and SERAI_CA, the person's own file, or the machine's.

    What the environment says counts more than what a file does; a token goes only to the controller it was kept for.

    Raises:
        ProfileError: nothing says, or a file says it wrongly.
    """
    own = user_file(environment)
    file = next((file for file in (own, system) if _readable(file)), None)
    found = read(file) if file else None
    url, token, ca = (environment.get(f"SERAI_{name.upper()}") for name in _FIELDS)
    if url is None and found is None:
        raise ProfileError("there is no controller to talk to: run `serai login URL`, or set SERAI_URL and SERAI_TOKEN")
    if found and (url is None or url.rstrip("/") == found.url.rstrip("/")):
        return dataclasses.replace(
            found,
            token=token or found.token,
            ca=Path(ca) if ca else found.ca,
            origin="SERAI_TOKEN" if token else found.origin,
        )
    assert url is not None  # noqa: S101 (else there is a file that says)
    return Profile(
        url=url,
        token=token,
        ca=Path(ca) if ca else None,
        origin="SERAI_TOKEN" if token else "SERAI_URL",
        directory=own.parent,
    )


def keep(file: Path, text: str) -> None:
    """Write a file at once, for nobody else to read."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(text)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _readable(file: Path) -> bool:
    try:
        return file.is_file() and os.access(file, os.R_OK)
    except OSError:
        return False


def read(file: Path) -> Profile:
    """Read a file that says it.

    Raises:
        ProfileError: it says nothing, or wrongly.
    """
    try:
        data = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"{file} cannot be read: {error}") from error
    if unknown := sorted(set(data) - set(_FIELDS)):
        raise ProfileError(f"{file}: {unknown[0]} is not known: it says {', '.join(_FIELDS)}")
    for name in _FIELDS:
        if not isinstance(data.get(name, ""), str):
            raise ProfileError(f"{file}: {name} is no text")
    if not data.get("url"):
        raise ProfileError(f'{file}: url is missing: write url = "https://controller:8743"')
    if data.get("token") and file.stat().st_mode & 0o077:
        raise ProfileError(f"{file} has a token in it, and others can read it: run `chmod 600 {file}`")
    ca = Path(data["ca"]) if data.get("ca") else None
    if ca is not None and not ca.is_absolute():
        ca = file.parent / ca
    return Profile(url=data["url"], token=data.get("token"), ca=ca, origin=str(file), directory=file.parent)
