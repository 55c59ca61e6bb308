"""``serai people`` and ``serai token``: who may do what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import click
import msgspec
from rich.table import Table

from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.show import as_json, console, line
from serai.wire import api
from serai.wire.client import Client, segment

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
_ROLES = click.option(
    "--role", "roles", multiple=True, metavar="ROLE[:SCOPE]",
    help="What they may do, and where: viewer:/acme. Without a scope, everywhere.",
)  # fmt: skip
_PASSWORD = click.option(
    "--password-file", type=click.File("r"), help="Read the password from here (- is the standard input)."
)
_OIDC = click.option("--oidc", metavar="'ISSUER SUBJECT'", help="Whom the OpenID provider knows them as.")


class NobodyError(ValueError):
    """There is no such person, or they are there already."""


@click.group()
def people() -> None:
    """Say who may do what."""


@people.command("list")
@_JSON
def list_people(json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """List people."""
    with connect() as client:
        found = client.ask("GET", "/v1/people", api.People)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
        return
    table = Table("NAME", "MAY", "LOGS IN", box=None, pad_edge=False)
    for each in found.people:
        how = "disabled" if each.disabled else each.oidc or "with a password"
        table.add_row(each.name, written(each.grants), how)
    console().print(table)


@people.command()
@click.argument("name")
@_ROLES
@_PASSWORD
@_OIDC
@_JSON
def add(  # one argument an option
    name: str, roles: tuple[str, ...], password_file: TextIO | None, oidc: str | None, json_: bool  # noqa: FBT001
) -> None:  # fmt: skip
    """Let NAME in. Their password is asked for, unless they log in elsewhere (--oidc)."""
    with connect() as client:
        if any(each.name == name for each in client.ask("GET", "/v1/people", api.People).people):
            raise NobodyError(f"{name} is there already: `serai people change {name}` changes what they may do")
        password = _read(password_file) if password_file or oidc else _asked(name)
        body = api.PersonRequest(name=name, grants=grants_of(roles), password=password, oidc=oidc)
        _put(client, body, json_=json_)


@people.command()
@click.argument("name")
@_ROLES
@click.option("--password", "ask", is_flag=True, help="Ask for a new password.")
@_PASSWORD
@_OIDC
@click.option("--enable", is_flag=True, help="Let them in again.")
@_JSON
def change(  # noqa: PLR0917  # one argument an option
    name: str, roles: tuple[str, ...], ask: bool, password_file: TextIO | None, oidc: str | None,  # noqa: FBT001
    enable: bool, json_: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Change what NAME may do (all of it: --role for each), or how they log in. What is not mentioned stays."""
    with connect() as client:
        found = _one(client, name)
        password = _asked(name) if ask else _read(password_file)
        body = api.PersonRequest(
            name=name, grants=grants_of(roles) if roles else found.grants, password=password, oidc=oidc or found.oidc,
            disabled=found.disabled and not enable,
        )  # fmt: skip
        _put(client, body, json_=json_)


@people.command()
@click.argument("name")
@_JSON
def disable(name: str, json_: bool) -> None:  # noqa: FBT001
    """Keep NAME out: no login, and none of their tokens works."""
    with connect() as client:
        found = _one(client, name)
        _put(client, api.PersonRequest(name=name, grants=found.grants, oidc=found.oidc, disabled=True), json_=json_)


@click.group()
def token() -> None:
    """Make tokens for programs, which may do less than you and not more."""


@token.command()
@click.argument("name")
@_ROLES
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="How long it is good.")
@_JSON
def new(name: str, roles: tuple[str, ...], days: int, json_: bool) -> None:  # noqa: FBT001
    """Make a token called NAME, and print it: once, and never again."""
    body = api.TokenRequest(name=name, days=days, grants=grants_of(roles) if roles else None)
    with connect() as client:
        made = client.ask("POST", "/v1/tokens", api.Token, body=body)
    if json_:
        as_json(console(), msgspec.to_builtins(made))
        return
    line(console(stderr=True), f"Token {made.id}, good until {moment(made.expires)}; it is not shown again:")
    line(console(), made.secret or "")


@token.command("list")
@_JSON
def list_tokens(json_: bool) -> None:  # noqa: FBT001
    """List your tokens, without their secrets."""
    with connect() as client:
        found = client.ask("GET", "/v1/tokens", api.Tokens)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
        return
    table = Table("ID", "NAME", "UNTIL", "MAY", box=None, pad_edge=False)
    for each in found.tokens:
        until = "revoked" if each.revoked else moment(each.expires)
        table.add_row(each.id, each.name, until, written(each.grants))
    console().print(table)


@token.command()
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """Make the token ID worthless, at once."""
    with connect() as client:
        client.tell("DELETE", f"/v1/tokens/{segment(token_id)}")
    line(console(), f"Token {token_id} is worthless now.")


def grants_of(roles: tuple[str, ...]) -> list[api.GrantBody]:
    """Read what was typed: ``viewer:/acme``; without a scope, everywhere."""
    return [api.GrantBody(role=role, scope=scope or "/") for role, _, scope in (text.partition(":") for text in roles)]


def written(grants: Sequence[api.GrantBody]) -> str:
    """Write grants as they are typed."""
    return ", ".join(f"{grant.role}:{grant.scope}" for grant in grants) or "nothing"


def _one(client: Client, name: str) -> api.Person:
    for each in client.ask("GET", "/v1/people", api.People).people:
        if each.name == name:
            return each
    raise NobodyError(f"there is nobody called {name}: `serai people list` lists them")


def _put(client: Client, body: api.PersonRequest, *, json_: bool) -> None:
    found = client.ask("PUT", f"/v1/people/{segment(body.name)}", api.Person, body=body)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    elif found.disabled:
        line(console(), f"{found.name} is kept out.")
    else:
        line(console(), f"{found.name} may: {written(found.grants)}.")


def _asked(name: str) -> str:
    answer: str = click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True)
    return answer


def _read(file: TextIO | None) -> str | None:
    return file.read().rstrip("\n") if file else None
