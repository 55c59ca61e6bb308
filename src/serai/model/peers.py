"""Peers as people write them: the other ends of connections."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from serai.model import fields
from serai.model.selectors import Part, Selector


class PeerSpec(Part):
    """The other end, told in one of five ways."""

    selector: Selector | None = None
    scope: fields.ScopePath | None = None
    network: fields.Reference | None = None
    cidr: fields.Prefix | None = None
    service: fields.Reference | None = None

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        by_label = self.selector is not None or self.scope is not None
        ways = [by_label, self.network is not None, self.cidr is not None, self.service is not None]
        if sum(ways) != 1:
            message = (
                "must say one thing: a selector (with or without a scope), a scope, a network, a cidr "
                f"or a service, not {'several' if sum(ways) else 'nothing'}"
            )
            raise ValueError(message)
        return self


Peers = Annotated[tuple[PeerSpec, ...], fields.AtLeastOnePeer]
"""At least one peer; the field is left out to mean anybody."""
