"""Pure: how a VM moves, where it may be, and which hosts may be moved between."""
