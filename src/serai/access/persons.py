"""Who may make whom what: nobody gives away, or takes over, more than they have."""

from __future__ import annotations

from collections.abc import Iterable

from serai.access.decide import Allowed, Caller, Decision, Refused, Subject, covers, decide
from serai.access.roles import Grant
from serai.access.verbs import Verb
from serai.model.tenancy import ROOT, Scope


def may_manage(caller: Caller, name: str, before: Iterable[Grant] | None, after: Iterable[Grant]) -> Decision:
    """Say whether ``caller`` may make of the person ``name``, who has ``before`` (None: who is new), one that has ``after``.

    It takes leave for all that the person has, too: who could set the password of somebody mightier would be them.
    People without any grant belong to nobody but the provider, for the same reason: they may be given some later.
    """
    had, gets = tuple(before or ()), tuple(after)
    asked = [grant.scope for grant in (*had, *gets)]
    if not gets or (before is not None and not had):
        asked.append(ROOT)
    for scope in asked:
        decision = decide(caller, Verb.MANAGE_PEOPLE, Subject(scope=scope))
        if isinstance(decision, Refused):
            return decision
    for grant in (*had, *gets):
        if not covers(caller, grant):
            return Refused(why=f"{caller.name} may not make {name} what they are not themselves: {grant}")
    return Allowed()


def home(grants: Iterable[Grant]) -> Scope:
    """Return the lowest scope that contains all of ``grants``; ``/`` where there are none."""
    lineages = [grant.scope.lineage for grant in grants]
    common = [level[0] for level in zip(*lineages, strict=False) if len(set(level)) == 1]
    return common[-1] if common else ROOT
