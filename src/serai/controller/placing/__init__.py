"""Where VMs may run and hosts fit, as a controller tells it."""
