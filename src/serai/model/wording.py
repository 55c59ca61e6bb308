"""Turns what pydantic says about a document into sentences for the person who wrote it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from serai.model.definitions import Path, did_you_mean

_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of fields to values",
    "model_attributes_type": "a mapping of fields to values",
}

_FEW = 2


def sentence(error: ErrorDetails, model: type[BaseModel], written: Mapping[Path, str]) -> tuple[Path, str]:
    """Return where the error is and what it says.

    Args:
        error: one entry of ``ValidationError.errors()``.
        model: what was validated.
        written: how scalars that are not text stand in the file.
    """
    path: Path = tuple(part for part in error["loc"] if part != "[key]")
    context = error.get("ctx", {})
    given = error["input"]
    match error["type"]:
        case "missing":
            message = "is required"
        case "extra_forbidden":
            message = _unknown_field(str(path[-1]), path[:-1], model)
        case "value_error":
            message = str(context["error"])
        case "enum" | "literal_error":
            message = _not_one_of(given, _choices(str(context["expected"])))
        case "greater_than_equal" | "less_than_equal":
            bound = f"least {context['ge']}" if "ge" in context else f"most {context['le']}"
            message = f"must be at {bound}, not {given}"
        case kind if kind in _TYPES:
            message = f"must be {_TYPES[kind]}, not {_shown(given, path, written)}"
            if kind == "string_type" and path in written:
                message += f': write it in quotes, "{written[path]}"'
        case _:
            message = error["msg"]
    return path, message


def known_fields(model: type[BaseModel], path: Path) -> Iterable[str]:
    """Return the names of the fields that the part at ``path`` of ``model`` may have."""
    part = _part(model, path)
    return [] if part is None else [f.alias or name for name, f in part.model_fields.items()]


def _unknown_field(name: str, path: Path, model: type[BaseModel]) -> str:
    known = list(known_fields(model, path))
    if name in {"from", "to"} and {"from", "to"} & set(known):
        direction, word = ("egress", "to") if name == "from" else ("ingress", "from")
        return f"unknown field; {direction} rules say {word!r}"
    hint = did_you_mean(name, known)
    return "unknown field" + (hint or f"; known here: {', '.join(known)}")


def _choices(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _not_one_of(given: object, choices: list[str]) -> str:
    few = len(choices) <= _FEW
    said = f"must be {' or '.join(choices)}" if few else f"must be one of {', '.join(choices)}"
    if not isinstance(given, str):
        return said
    return f"{said}, not {given[:60]!r}{did_you_mean(given, choices) if len(choices) > 1 else ''}"


def _shown(given: object, path: Path, written: Mapping[Path, str]) -> str:
    if path in written:
        kind = "truth value" if isinstance(given, bool) else "number"
        return f"the {kind} {written[path]}"
    if isinstance(given, dict):
        return "a mapping"
    return "a list" if isinstance(given, list) else repr(given)[:80]


def _part(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """Walk down the annotations to the model of one part."""
    part: type[BaseModel] | None = model
    for step in path:
        if part is None or isinstance(step, int):
            continue
        annotations = [f.annotation for name, f in part.model_fields.items() if step in (f.alias, name)]
        part = next((m for a in annotations for m in _models(a)), None)
    return part


def _models(annotation: object) -> Iterable[type[BaseModel]]:
    """Find the models inside ``X | None``, ``tuple[X, ...]`` and ``Annotated[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from _models(argument)
