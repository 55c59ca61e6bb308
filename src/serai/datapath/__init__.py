"""The user side of the gate: layout, object, maps, attach, sweep, handoff."""
