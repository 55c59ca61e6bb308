"""``serai login`` and ``serai whoami``: who asks the controller."""

from __future__ import annotations

import dataclasses
import os
import webbrowser
from pathlib import Path
from typing import TextIO

import click
import httpx2
import msgspec

from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.people import written
from serai.cli.show import as_json, console, line
from serai.wire import api, profile
from serai.wire.client import Client
from serai.wire.profile import Profile
from serai.wire.signin import sign_in
from serai.wire.trust import fetch_ca, fingerprint, is_vouched_for

SIGN_IN_SECONDS = 300.0
"""How long a person may take to sign in somewhere else."""
_PROVIDER_SECONDS = 20.0


class LoginError(RuntimeError):
    """Nobody can log in so."""


@click.command(short_help="Log in to a controller.")
@click.argument("url", required=False)
@click.option("--name", help="Who you are; asked for unless said.")
@click.option("--password-file", type=click.File("r"), help="Read the password from here (- is the standard input).")
@click.option(
    "--ca", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Who vouches for the controller (PEM)."
)
@click.option(
    "--fingerprint", "expected", metavar="SHA256", help="Take the controller's CA if this is its fingerprint."
)
@click.option("--oidc", is_flag=True, help="Log in at the OpenID provider of the site, in a browser.")
@click.option(
    "--token", "token_file", type=click.File("r"), help="Use the API token in this file instead of a password."
)
def login(  # noqa: PLR0917  # one argument an option
    url: str | None, name: str | None, password_file: TextIO | None, ca: Path | None, expected: str | None,
    oidc: bool, token_file: TextIO | None,  # noqa: FBT001 (click calls it by name)
) -> None:  # fmt: skip
    """Log in to the controller at URL (https://NAME:8743), and remember it for all other verbs.

    Where this machine does not know who vouches for it, you are shown the fingerprint of its CA: compare it with what
    the controller printed when it was set up. What is remembered stands in ~/.config/serai, for nobody else to read.
    """
    url = (url or profile.find(os.environ).url).rstrip("/")
    file = profile.user_file(os.environ)
    trusted = ca.resolve() if ca else _trusted(url, expected, file.with_name("ca.pem"))
    at = Profile(url=url, ca=trusted, directory=file.parent, origin=str(file))
    if token_file:
        at = dataclasses.replace(at, token=token_file.read().strip())
        with Client(at) as client:
            person = client.ask("GET", "/v1/whoami", api.Person).name
        until = ""
    else:
        with Client(at) as client:
            given = _by_provider(client) if oidc else _by_password(client, name, password_file)
        at, person, until = dataclasses.replace(at, token=given.secret), given.person, f" until {moment(given.expires)}"
    at.write(file)
    line(console(), f"You are {person} at {url}{until}; {file} says so.")


@click.command(short_help="Say who you are, and what you may do.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def whoami(json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """Say who the controller takes you for, and what you may do there."""
    with connect() as client:
        found = client.ask("GET", "/v1/whoami", api.Person)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    else:
        line(console(), f"{found.name} at {client.url}, who may: {written(found.grants)}.")


def _by_password(client: Client, name: str | None, password_file: TextIO | None) -> api.Token:
    name = name or click.prompt("Name", err=True)
    password = (
        password_file.read().rstrip("\n") if password_file else click.prompt("Password", hide_input=True, err=True)
    )
    return client.ask("POST", "/v1/login", api.Token, body=api.Login(name=name, password=password))


def _by_provider(client: Client) -> api.Token:
    ways = client.ask("GET", "/v1/login", api.LoginWays)
    if ways.issuer is None or ways.client is None:
        raise LoginError(f"{client.url} knows no OpenID provider: log in with a password")

    def show(address: str) -> None:
        line(console(stderr=True), f"Log in here (a browser may open by itself):\n{address}")
        webbrowser.open(address)

    with httpx2.Client(timeout=_PROVIDER_SECONDS) as web:
        given = sign_in(ways.issuer, ways.client, show, http=web, seconds=SIGN_IN_SECONDS)
    return client.ask(
        "POST", "/v1/login/oidc", api.Token, body=api.OidcLogin(id_token=given.id_token, secret=given.secret)
    )


def _trusted(url: str, expected: str | None, file: Path) -> Path | None:
    """Find out who vouches for a controller, where this machine does not know; keep it in ``file``."""
    if expected is None and is_vouched_for(url):
        return None
    pem = fetch_ca(url)
    shown = fingerprint(pem)
    if expected is not None and shown != f"sha256:{expected.lower().removeprefix('sha256:').replace(':', '')}":
        raise LoginError(
            f"the CA of {url} has the fingerprint {shown}, not the one you expect: this is another controller, or somebody in between"
        )
    if expected is None:
        line(
            console(stderr=True),
            f"The CA of {url} has the fingerprint\n  {shown}\nCompare it with what the controller printed.",
        )
        click.confirm("Is it the same?", abort=True, err=True)
    profile.keep(file, pem)
    return file
