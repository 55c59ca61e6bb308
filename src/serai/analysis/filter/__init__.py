"""The language in which people say which traffic they mean: ``vm=web-1 and dport=443 and verdict=denied``.

A filter is read (``parse``), written as a condition of ClickHouse (``clause``) and, for tests, looked at record by record (``matches``).
What can be asked for stands in one table, ``FIELDS``.
"""

from serai.analysis.filter.errors import FilterError, NotKeptError
from serai.analysis.filter.fields import FIELDS, Field
from serai.analysis.filter.grammar import DEEPEST, LONGEST, parse
from serai.analysis.filter.kinds import Operator
from serai.analysis.filter.oracle import Inventory, matches
from serai.analysis.filter.sql import PAIR_COLUMNS, PROTOCOL_COLUMNS, VM_COLUMNS, Clause, clause
from serai.analysis.filter.tree import EVERYTHING, And, Filter, Not, Or, Term, term, terms

__all__ = [
    "DEEPEST", "EVERYTHING", "FIELDS", "LONGEST", "PAIR_COLUMNS", "PROTOCOL_COLUMNS", "VM_COLUMNS",
    "And", "Clause", "Field", "Filter", "FilterError", "Inventory", "Not", "NotKeptError", "Operator", "Or", "Term",
    "clause", "matches", "parse", "term", "terms",
]  # fmt: skip
