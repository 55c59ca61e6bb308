"""Files of resources to a world: all of it, or every error of every file at once."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from serai.model.definitions import (
    Complaints,
    Definition,
    DefinitionError,
    did_you_mean,
    dotted,
    line_of,
)
from serai.model.places import Places, places
from serai.model.resolve import resolve
from serai.model.resources import KINDS, Resource
from serai.model.tenancy import is_name
from serai.model.wording import sentence
from serai.model.world import World
from serai.model.yaml_nodes import Document, read_stream


def decode(files: Mapping[str, str]) -> World:
    """Read resources and resolve every reference among them. The order of the files does not matter.

    Args:
        files: the text of each file by the name that errors shall call it. A file may hold several documents.

    Raises:
        DefinitionErrors: anything at all is wrong.
    """
    return decode_with_places(files)[0]


def decode_with_places(files: Mapping[str, str]) -> tuple[World, Places]:
    """Do as ``decode`` does, and say where each policy and each rule is written.

    Raises:
        DefinitionErrors: anything at all is wrong.
    """
    complaints = Complaints()
    definitions: list[Definition[Resource]] = []
    for file in sorted(files):
        stream = read_stream(files[file])
        if stream.fault:
            complaints.add(
                DefinitionError(file=file, line=stream.fault.line, resource="", field="", message=stream.fault.message),
                kind=None,
                name=None,
            )
        for document in stream.documents:
            definition = _definition(file, document, complaints)
            if definition:
                definitions.append(definition)
    world = resolve(definitions, complaints)
    complaints.settle()
    return world, places(definitions)


def _definition(file: str, document: Document, complaints: Complaints) -> Definition[Resource] | None:
    """Validate one document; None where it is not well-formed."""
    errors = [(fault.line, fault.path, fault.message) for fault in document.faults]
    faulty = {fault.path for fault in document.faults}
    kind, name, resource_label = _identity(document.data)
    resource: Resource | None = None
    try:
        resource = _validate(document.data)
    except _NotAResourceError as error:
        errors.append((line_of(document.lines, error.path), error.path, str(error)))
    except ValidationError as error:
        for details in error.errors():
            path, message = sentence(details, KINDS[str(kind)], document.written)
            # What the YAML itself got wrong has been said already.
            if not any(path[:length] in faulty for length in range(len(path) + 1)):
                errors.append((line_of(document.lines, path), path, message))
    for line, path, message in errors:
        complaints.add(
            DefinitionError(file=file, line=line, resource=resource_label, field=dotted(path), message=message),
            kind=kind,
            name=name,
        )
    if errors or resource is None:
        return None
    return Definition(resource=resource, file=file, lines=document.lines)


class _NotAResourceError(ValueError):
    """It cannot even be told what the document is about."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        self.path = path
        super().__init__(message)


def _validate(data: object) -> Resource:
    if not isinstance(data, dict):
        message = "a resource is a mapping with apiVersion, kind, metadata and spec"
        raise _NotAResourceError((), message)
    kind = data.get("kind")
    if kind is None:
        message = f"is required: one of {', '.join(KINDS)}"
        raise _NotAResourceError(("kind",), message)
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        shown = repr(kind)[:60]
        hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        message = f"unknown kind {shown}{hint or '; known kinds: ' + ', '.join(KINDS)}"
        raise _NotAResourceError(("kind",), message)
    return model.model_validate_json(json.dumps(data))


def _identity(data: object) -> tuple[str | None, str | None, str]:
    """Make out kind, name and label of a document that may be anything."""
    if not isinstance(data, dict):
        return None, None, ""
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return None, None, ""
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    scope = metadata.get("scope") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not is_name(name):
        return kind, None, kind
    if isinstance(scope, str) and len(scope) <= 200 and scope.isprintable() and scope != "/":  # noqa: PLR2004
        return kind, name, f"{kind} {scope}:{name}"
    return kind, name, f"{kind} {'/:' if scope == '/' and kind in _SCOPED else ''}{name}"


_SCOPED = frozenset({"Network", "VirtualMachine", "Service", "Policy", "Invariant"})
