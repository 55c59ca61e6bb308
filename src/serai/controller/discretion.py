"""What people are told of others' things: nothing. A change may well run into what its author may not see."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

import msgspec

from serai.access.decide import Caller
from serai.controller.standing import may_see_hosts
from serai.controller.views import may_see
from serai.model.definitions import DefinitionError, DefinitionErrors
from serai.model.tenancy import ROOT, Scope
from serai.wire import api

_NAMED: Final = re.compile(r"(?P<scope>/(?:[a-z0-9-]+(?:/[a-z0-9-]+)?)?):[a-z0-9]")
"""The beginning of a resource's path."""
_NEUTRAL: Final = "contradicts what somebody else has, whom you may not see: choose another, or ask the provider"


def errors_for(who: Caller, errors: DefinitionErrors) -> DefinitionErrors:
    """Return what is wrong, without the names of what this person may not see."""
    if may_see(who, ROOT):
        return errors
    return DefinitionErrors([_for(who, error) for error in errors.errors])


def applied_for(who: Caller, made: api.Applied) -> api.Applied:
    """Return what was done, without the names of hosts where this person may not see them."""
    return made if may_see_hosts(who) else msgspec.structs.replace(made, hosts=[])


def _for(who: Caller, error: DefinitionError) -> DefinitionError:
    if any(not may_see(who, Scope(found["scope"])) for found in _NAMED.finditer(error.message)):
        return dataclasses.replace(error, message=_NEUTRAL)
    return error
