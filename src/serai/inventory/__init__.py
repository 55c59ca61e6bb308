"""Where hosts, networks and virtual machines are learned from."""
