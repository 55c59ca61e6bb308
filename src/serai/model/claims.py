"""Claims as people write them: what invariants say."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from serai.model import fields
from serai.model.invariant import Claim
from serai.model.peers import Peers
from serai.model.selectors import Part


class ClaimSpec(Part):
    """Connections that an invariant is about. What is left out means anybody, or every port."""

    sources: Peers | None = Field(None, alias="from")
    targets: Peers | None = Field(None, alias="to")
    ports: Annotated[tuple[fields.Ports, ...], fields.AtLeastOnePort] | None = None


class OnlySpec(ClaimSpec):
    """Connections that only some may open."""

    sources: Peers = Field(alias="from")


class InvariantSpec(Part):
    """What has to be true of the policies."""

    description: fields.Line | None = None
    never: ClaimSpec | None = None
    only: OnlySpec | None = None
    always: ClaimSpec | None = None

    @model_validator(mode="after")
    def _check_one_claim(self) -> Self:
        claims = len(self.claims())
        if claims != 1:
            message = f"must say one thing: never, only or always, not {'several' if claims else 'nothing'}"
            raise ValueError(message)
        return self

    def claims(self) -> dict[Claim, ClaimSpec]:
        """What it says; one thing, once it is checked."""
        said = {Claim.NEVER: self.never, Claim.ONLY: self.only, Claim.ALWAYS: self.always}
        return {claim: spec for claim, spec in said.items() if spec is not None}
