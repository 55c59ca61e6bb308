"""The agent's link to a controller: one at a time, the one that leads."""
