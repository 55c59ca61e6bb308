"""The HTTP API of a controller: JSON in, JSON out, and for every error a sentence."""
