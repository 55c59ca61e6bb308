"""Routes: the resources in force, and each of them by itself."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from litestar import Response, Router, delete, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Body, HeaderParameter, QueryParameter

from serai.controller.api.asking import LARGEST, LONGEST, NO_NUL, REFUSALS, PathWord, Service, Who
from serai.controller.api.changes import outcome
from serai.controller.errors import GoneAheadError, InvalidError, MalformedError, NotFoundError, StaleError
from serai.model.resources import KINDS
from serai.wire import api

_ETAG: Final = re.compile(r'(?:W/)?"?([0-9]{1,19})"?')
_LABEL: Final = r"^[^=\u0000]{1,320}=[^\u0000]{0,63}$"
_PROPOSED: Final = {
    202: ResponseSpec(api.Proposed, description="It waits for a second person.", generate_examples=False)
}

_IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match", max_length=32,
        description="The revision of the resource that you have seen, as `ETag` had it: 412 if it is another now.",
    ),
]  # fmt: skip


@get(
    "/resources",
    opt={"query": frozenset({"kind", "scope", "label", "limit", "after"})},
    summary="List resources",
    responses=REFUSALS,
)
async def list_resources(
    *,
    facade: Service,
    caller: Who,
    kind: Annotated[str | None, QueryParameter(pattern="^[A-Za-z]{1,40}$")] = None,
    in_scope: Annotated[
        str | None,
        QueryParameter(pattern=NO_NUL, max_length=LONGEST, name="scope", description="In this scope, or below it."),
    ] = None,
    label: Annotated[
        list[Annotated[str, msgspec.Meta(pattern=_LABEL)]] | None,
        QueryParameter(description="`key=value`: VMs that have all of these labels.", max_items=20),
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    after: Annotated[
        str | None,
        QueryParameter(pattern=NO_NUL, max_length=LONGEST, description="Where the page before this one ended."),
    ] = None,
) -> api.Page:
    """List the resources in force that one may read, in order of kind and path."""
    if kind is not None and kind not in KINDS:
        raise MalformedError(f"kind: there is no kind {kind!r}: known are {', '.join(KINDS)}")
    labels = dict(each.split("=", 1) for each in label or ())
    return await facade.resources(caller, kind=kind, scope=in_scope, labels=labels, limit=limit, after=after)


@get("/resources/{kind:str}/{path:path}", summary="Show a resource", responses=REFUSALS)
async def show_resource(facade: Service, caller: Who, kind: PathWord, path: PathWord) -> Response[api.Resource]:
    """Show one resource in force. ``ETag`` is the revision that wrote it."""
    found = await facade.resource(caller, *_key(kind, path))
    return Response(found, headers={"ETag": f'"{found.revision}"'})


@put("/resources/{kind:str}/{path:path}", status_code=200, responses=REFUSALS | _PROPOSED, summary="Make a resource")
async def put_resource(
    *,
    facade: Service,
    caller: Who,
    kind: PathWord,
    path: PathWord,
    data: Annotated[dict[str, Any], Body(description="The whole resource: apiVersion, kind, metadata, spec.")],
    if_match: _IfMatch = None,
) -> Response[api.Applied | api.Proposed]:
    """Make one resource, or make it otherwise."""
    key = _key(kind, path)
    name = " ".join(key)
    if (named := _named(data)) != key:
        raise InvalidError(
            f"this is {' '.join(named) or 'no resource'}, and the path names {name}: put it where it belongs"
        )
    text = msgspec.json.encode(data).decode()
    body = api.ChangeRequest(files={name: text}, base=_revision(if_match), message=f"put {name}")
    return await _apply(facade, caller, body, exact=if_match is not None)


@delete(
    "/resources/{kind:str}/{path:path}", status_code=200, responses=REFUSALS | _PROPOSED, summary="Delete a resource"
)
async def delete_resource(
    facade: Service, caller: Who, kind: PathWord, path: PathWord, if_match: _IfMatch = None
) -> Response[api.Applied | api.Proposed]:
    """Delete one resource."""
    key = _key(kind, path)
    body = api.ChangeRequest(
        delete=(api.Named(kind=key[0], path=key[1]),), base=_revision(if_match), message=f"delete {' '.join(key)}"
    )
    return await _apply(facade, caller, body, exact=if_match is not None)


async def _apply(
    facade: Service, caller: Who, body: api.ChangeRequest, *, exact: bool
) -> Response[api.Applied | api.Proposed]:
    try:
        return outcome(await facade.apply(caller, body))
    except StaleError as error:
        if exact:
            raise GoneAheadError(str(error), faults=error.faults) from error
        raise


def _key(kind: str, path: str) -> tuple[str, str]:
    """Name a resource as the path of a URL does: what has a scope has a colon, and its path begins with ``/``."""
    if kind not in KINDS:
        raise NotFoundError(f"there is no kind {kind!r}: known are {', '.join(KINDS)}")
    rest = path.lstrip("/")
    return kind, f"/{rest}" if ":" in rest else rest


def _named(data: dict[str, Any]) -> tuple[str, ...]:
    """Say which resource a document is, as far as it says so."""
    kind, metadata = data.get("kind"), data.get("metadata")
    if not isinstance(kind, str) or not isinstance(metadata, dict):
        return ()
    name, scope = metadata.get("name"), metadata.get("scope")
    return kind, f"{scope}:{name}" if scope is not None else str(name)


def _revision(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    found = _ETAG.fullmatch(if_match.strip())
    if not found or int(found[1]) > LARGEST:
        raise MalformedError("If-Match: is no revision: send what `ETag` had when you read the resource")
    return int(found[1])


resources = Router(
    "/", route_handlers=[list_resources, show_resource, put_resource, delete_resource], tags=["Resources"]
)
