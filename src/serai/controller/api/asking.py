"""What every route is given: the service, and who asks; and the numbers and words that routes take."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from litestar import Request
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, SkipValidation

from serai.access.decide import Caller
from serai.controller.api.facade import Facade
from serai.wire.api import Problem

LARGEST: Final = 2**63 - 1
"""What a database holds."""

Asked: TypeAlias = Request[Caller | None, str | None, State]

Service: TypeAlias = SkipValidation[Facade]
Who: TypeAlias = SkipValidation[Caller]

PathNumber: TypeAlias = Annotated[int, PathParameter(ge=0, le=LARGEST)]
NO_NUL: Final = r"^[^\u0000]*$"
LONGEST: Final = 512
"""Characters in a word that stands in a URL."""

PathWord: TypeAlias = Annotated[str, PathParameter(pattern=NO_NUL, max_length=LONGEST)]

OPEN: Final[dict[str, Any]] = {"open": True}
"""The mark of a route that asks nobody who they are."""
PATIENT: Final[dict[str, Any]] = {"patient": True}
"""The mark of a route that may take long."""

_SAID: Final = {
    400: "It is not a request.",
    401: "Nobody knows who asks.",
    403: "Whoever asks may not.",
    404: "There is no such thing.",
    409: "It contradicts what is.",
    412: "It was changed meanwhile.",
    413: "It is too much at once.",
    422: "It cannot come into force.",
    429: "Whoever asks asks too often.",
    500: "It is a fault of the controller.",
    503: "The controller cannot do it now.",
}


REFUSALS: Final = {
    status: ResponseSpec(
        data_container=Problem, description=description, media_type="application/problem+json", generate_examples=False
    )
    for status, description in _SAID.items()
}
"""How routes say no."""
