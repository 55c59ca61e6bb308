"""Text to resources that are well-formed: files that people write, and what was kept of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from serai.model.definitions import (
    Complaints,
    Definition,
    DefinitionError,
    DefinitionErrors,
    Path,
    did_you_mean,
    dotted,
    line_of,
)
from serai.model.key import Key
from serai.model.resources import KINDS, Resource
from serai.model.tenancy import is_name
from serai.model.wording import sentence
from serai.model.yaml_nodes import Document, read_stream

_NO_LINES: Final[Mapping[Path, int]] = MappingProxyType({(): 0})


def read_files(files: Mapping[str, str]) -> list[Definition[Resource]]:
    """Read resources, file by file. References among them are nobody's business here.

    Args:
        files: the text of each file by the name that errors shall call it. A file may hold several documents.

    Raises:
        DefinitionErrors: something is not well-formed.
    """
    complaints = Complaints()
    definitions = read(files, complaints)
    complaints.settle()
    return definitions


def read(files: Mapping[str, str], complaints: Complaints) -> list[Definition[Resource]]:
    """Read what is well-formed; the rest goes to ``complaints``."""
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
    return definitions


def read_stored(key: Key, body: str, revision: int) -> Definition[Resource]:
    """Read what a definition's ``body`` was kept as. Errors call it by its revision.

    Raises:
        DefinitionErrors: it is no such resource, as this version understands it.
    """
    complaints = Complaints()
    file = f"revision {revision}"

    def complain(path: Path, message: str) -> None:
        error = DefinitionError(file=file, line=0, resource=str(key), field=dotted(path), message=message)
        complaints.add(error, kind=key.kind, name=None)

    model = KINDS.get(key.kind)
    try:
        resource = model.model_validate_json(body) if model else None
    except ValidationError as error:
        for details in error.errors():
            complain(*sentence(details, KINDS[key.kind], {}))
    else:
        if resource is None:
            complain((), f"is of a kind that this version does not know; it knows {', '.join(KINDS)}")
        elif Key.of(resource) != key:
            complain((), f"is kept under this name, and calls itself {Key.of(resource)}")
        else:
            return Definition(resource=resource, file=file, lines=_NO_LINES, body=body)
    raise DefinitionErrors(complaints.errors)


def canonical(document: object) -> str:
    """Write a document down: of the same content, always the same text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
    return Definition(resource=resource, file=file, lines=document.lines, body=canonical(document.data))


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
