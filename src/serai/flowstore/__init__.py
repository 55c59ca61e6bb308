"""The flow store: records of traffic in a column engine, embedded or a cluster, and what is asked of them."""
