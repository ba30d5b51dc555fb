"""The only place where things are put together: assembly, supervisor, worker, privileges."""
