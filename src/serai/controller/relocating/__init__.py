"""Moves that one plan made: carried out by the controller that leads, a few at a time, and stopped by the first that fails."""
