"""The benchmark: load generators, what the machine can do, a throw-away server, and a report."""
