"""What domains tell each other about mail: aggregate reports of DMARC in both directions, and complaints of users."""
