"""What the programs say to each other."""
