"""The one exception of the lab."""


class LabError(RuntimeError):
    """The lab could not do what was asked; the message says what failed and what to do about it."""
