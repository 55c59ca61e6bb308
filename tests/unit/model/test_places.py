"""Where policies and rules are written."""

from pathlib import Path

import pytest

from serai.inventory.files import load, load_with_places
from serai.model.decode import decode_with_places
from serai.model.places import Place

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"

TEXT = """\
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
# A comment.

apiVersion: serai.dev/v1
kind: Policy
metadata:
  scope: /acme
  name: web
spec:
  tier: Tenant
  ingress:
    # Above the rule.
    - {name: a, action: Accept}

    - action: Deny
      name: b
  egress:
    -
      name: a
      action: Deny
"""


def test_rules_are_found_by_the_line_where_they_begin() -> None:
    _, places = decode_with_places({"web.yaml": TEXT})
    assert dict(places.policies) == {"/acme:web": Place("web.yaml", 11)}
    assert dict(places.rules) == {
        "/acme:web/ingress/a": Place("web.yaml", 16),
        "/acme:web/ingress/b": Place("web.yaml", 18),
        "/acme:web/egress/a": Place("web.yaml", 22),
    }
    assert str(places.of("/acme:web/ingress/b")) == "web.yaml:18"
    assert places.of("/acme:web").line == 11
    with pytest.raises(KeyError):
        places.of("/acme:web/ingress/c")


def test_every_rule_of_a_directory_has_a_place() -> None:
    world, places = load_with_places(EXAMPLE)
    assert world == load(EXAMPLE)
    refs = {rule.ref.text: rule for policy in world.policies for rules in policy.rules.values() for rule in rules}
    assert set(places.rules) == set(refs)
    assert set(places.policies) == {f"{policy.scope}:{policy.name}" for policy in world.policies}
    for ref, place in places.rules.items():
        line = Path(place.file).read_text().splitlines()[place.line - 1]
        assert f"name: {ref.rpartition('/')[2]}" in line
