"""What the agent answers to what it will not do."""


class RefusedError(ValueError):
    """What was asked cannot be done; nothing has changed."""
