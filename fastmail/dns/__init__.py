"""Names to hosts: the resolver that relaying and policy use."""
