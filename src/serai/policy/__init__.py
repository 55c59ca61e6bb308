"""Pure: from a world to verdicts. ``evaluate`` is the slow, obvious way; ``compile`` the one for gates."""
