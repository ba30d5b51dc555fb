"""From the queue to other hosts: routes, connections, outcomes, and the reports about what could not be delivered."""
