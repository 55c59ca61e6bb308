"""Questions about recorded traffic: from what is asked to a statement for the flow store. Values never stand in SQL: they are parameters."""
