"""Where policies and their rules are written, for those who have to point at them. Worlds do not know it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from serai.model import resources
from serai.model.definitions import Definition, line_of
from serai.model.policy import RuleRef
from serai.model.resources import Resource, path_of


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file."""

    file: str
    """By the name that it was given to the decoder with."""
    line: int
    """Counted from 1."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where each policy and each rule of a world begins."""

    rules: Mapping[str, Place]
    """By the text of the rule's reference, such as ``/acme:shop/ingress/from-web``; the rule's own line."""
    policies: Mapping[str, Place]
    """By the policy's path, such as ``/acme:shop``; the line of its name."""

    def of(self, name: str) -> Place:
        """Return where the rule or the policy called ``name`` is written.

        Raises:
            KeyError: the files have neither.
        """
        # A policy's path has no slash behind its colon, a rule's reference has two.
        return self.rules[name] if name in self.rules else self.policies[name]


def places(definitions: Iterable[Definition[Resource]]) -> Places:
    """Note where the policies among ``definitions`` are written."""
    rules: dict[str, Place] = {}
    policies: dict[str, Place] = {}
    for definition in definitions:
        policy = definition.resource
        if not isinstance(policy, resources.Policy):
            continue
        file, lines = definition.file, definition.lines
        policies[path_of(policy)] = Place(file, line_of(lines, ("metadata", "name")))
        for direction, specs in policy.spec.rules().items():
            for number, spec in enumerate(specs):
                ref = RuleRef.of(policy.metadata.scope, policy.metadata.name, direction, spec.name)
                rules[ref.text] = Place(file, line_of(lines, ("spec", str(direction), number)))
    return Places(rules=MappingProxyType(rules), policies=MappingProxyType(policies))
