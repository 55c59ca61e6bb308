"""Conversations with agents: what may be said when, and which agent of a host is the newest."""
