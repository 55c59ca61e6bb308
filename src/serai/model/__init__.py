"""Immutable domain values: tenancy, inventory, policy, ruleset, flow, reasons. No I/O."""
