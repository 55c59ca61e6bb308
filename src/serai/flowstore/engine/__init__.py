"""The embedded engine: ClickHouse as a library (chDB), in a process of its own, behind the HTTP interface of ClickHouse.

The rest of Serai talks to it as to any ClickHouse server, with ``clickhouse-connect`` and a URL.
"""
