"""Will others accept what a domain of this server sends? A line for each thing that they look at."""
