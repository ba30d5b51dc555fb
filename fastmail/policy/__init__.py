"""What we think of a message: who really sent it (SPF, DKIM, DMARC, ARC), and one verdict with its reasons."""
