"""Traffic as it goes, on the whole screen."""
