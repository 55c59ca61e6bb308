"""A controller is killed at every step of an apply: what was acknowledged is there, and nothing is half there."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path

from mortal import PLACES
from sites import HOSTS, digest, site


def test_killed_at_every_step_of_an_apply(tmp_path: Path) -> None:
    with site(tmp_path, dies=PLACES[0]) as at:
        port = 80
        assert at.apply(port) == 1
        at.connect()
        at.until(lambda: at.stand(port), "both hosts hold the first rulesets")
        in_force, committed = [port], 1
        for place, after in itertools.pairwise((*PLACES, "")):
            port += 1
            acknowledged = at.apply(port, message="die")
            assert at.process is not None
            assert at.process.wait(30) == -signal.SIGKILL, place
            at.start(after)
            head = at.head()
            assert head in {committed, committed + 1}, place
            assert acknowledged is None or head == acknowledged, f"{place}: what was acknowledged is lost"
            if head > committed:
                in_force.append(port)
                committed = head
            at.until(lambda: at.stand(in_force[-1]), f"{place}: both hosts are back, and hold what is in force")
            assert at.audit_is_whole(), place
        # All but those before the commit have come into force.
        assert in_force == [80, *range(83, 80 + len(PLACES) + 1)]
        for name in HOSTS:
            assert set(at.hosts[name].ever) <= {digest(name, each) for each in in_force}, "something else was held"
