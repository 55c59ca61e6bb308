"""Plans of moves, made from what a controller knows: how hosts are emptied, and pools levelled."""
