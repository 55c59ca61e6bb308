"""A day of a data center's traffic as the flow store keeps it, made up, at a million rows a second and more; with answers known beforehand."""

from bench.flowtraffic.answers import Answers, Edge
from bench.flowtraffic.day import ROWS, records
from bench.flowtraffic.population import Population
from bench.flowtraffic.rows import SLOT_SECONDS

__all__ = ["ROWS", "SLOT_SECONDS", "Answers", "Edge", "Population", "records"]
