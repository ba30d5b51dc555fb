"""Questions to the DNS, for relaying and policy."""
