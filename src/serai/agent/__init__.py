"""The agent: one a host, between the controller and the gates."""
