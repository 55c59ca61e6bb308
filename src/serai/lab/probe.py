"""The outcome of one connection attempt, as seen by whoever made it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """What one probe met."""

    ok: bool
    error: str
    """Empty, or: timeout, refused, unreachable, prohibited, reset, failed."""
    milliseconds: float
    """From the first packet to the end of the exchange."""
    peer: str
    """Name in the banner of the service that answered; empty for ICMP and failures."""
