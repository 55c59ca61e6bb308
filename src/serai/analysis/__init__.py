"""Pure: what counted traffic means. No I/O."""
