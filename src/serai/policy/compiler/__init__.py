"""Pure: from policies and an inventory to what every host is told, all at once and change by change."""
