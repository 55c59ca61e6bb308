"""Pure: what policies mean. ``evaluate`` is the slow, obvious way, ``compiler`` the one for gates, ``questions`` those for people."""
