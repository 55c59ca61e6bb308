"""The controller: from policies and what hosts report to one ruleset a host."""
