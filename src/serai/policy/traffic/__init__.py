"""Policies and recorded traffic: the least policy that admits what was seen, and what another policy would have done to it."""
