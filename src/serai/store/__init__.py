"""Durable state: resources and their history, people, hosts, the audit log. SQLite, or PostgreSQL."""
