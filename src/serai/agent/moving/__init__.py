"""VMs that come to this host and leave it: their flows go from agent to agent, and one gate at a time is theirs."""
