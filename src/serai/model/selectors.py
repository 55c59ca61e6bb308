"""Selectors as people write them, and the strictness that every piece of a resource shares."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from serai.model import fields
from serai.model.policy import Expression, Operator


class Part(BaseModel):
    """A piece of a resource: immutable, strict about types, closed to unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)


class MatchExpression(Part):
    """One requirement on one label."""

    key: fields.LabelKey
    operator: Operator
    values: tuple[fields.LabelValue, ...] = ()

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        wants_values = self.operator in {Operator.IN, Operator.NOT_IN}
        if wants_values != bool(self.values):
            message = f"{self.operator.value} {'needs' if wants_values else 'takes no'} values"
            raise ValueError(message)
        return self


class Selector(Part):
    """Picks VMs by their labels; an empty one picks all."""

    match_labels: dict[fields.LabelKey, fields.LabelValue] = {}
    match_expressions: tuple[MatchExpression, ...] = ()

    def expressions(self) -> frozenset[Expression]:
        """All requirements in one form."""
        labels = (
            Expression(key=key, operator=Operator.IN, values=frozenset({value}))
            for key, value in self.match_labels.items()
        )
        others = (
            Expression(key=e.key, operator=e.operator, values=frozenset(e.values)) for e in self.match_expressions
        )
        return frozenset((*labels, *others))
