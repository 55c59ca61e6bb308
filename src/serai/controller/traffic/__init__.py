"""Traffic: takes in what agents have counted, says who it was, keeps it, and answers questions about it."""
