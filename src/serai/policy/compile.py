"""From a world to one host's ruleset."""

from __future__ import annotations

from collections.abc import Collection

from serai.model.columns import Columns
from serai.model.ruleset import HostRuleset
from serai.model.world import World
from serai.policy.compiler.census import census
from serai.policy.compiler.domains import compile_domains, guests
from serai.policy.compiler.spell import SpelledPolicy
from serai.policy.compiler.statutes import Statutes


def compile_host(world: World, host: str, vms: Collection[str]) -> HostRuleset:
    """Compile what ``host`` needs to guard the VMs at the paths ``vms``, and no more.

    The result depends on nothing but ``world``, ``host`` and the set of ``vms``. Who compiles again and again, or for many
    hosts, keeps a ``Compiler``.

    Raises:
        KeyError: the world has no VM at one of the paths.
        CollisionError: two different things would have the same number.
    """
    mine = [world.vms[path] for path in sorted(set(vms))]
    wanted = {vnic.network.routing_domain for vm in mine for vnic in vm.vnics}
    met = (vm for vm in world.vms.values() if any(vnic.network.routing_domain in wanted for vnic in vm.vnics))
    columns = Columns.of(met)
    statutes = Statutes.of(map(SpelledPolicy, world.policies), world.last_word, world.quarantine)
    domains = compile_domains(list(census(columns, wanted)), statutes, {})
    return HostRuleset.of(host, (part.raw for guest in guests(Columns.of(mine)) for part in guest.parts(domains)))
