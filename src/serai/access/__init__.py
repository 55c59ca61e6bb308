"""Pure: who may do what, where. Roles, scopes, second persons; no passwords, no I/O."""
