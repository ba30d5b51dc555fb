"""Recovery after a loss: compares the index with the disk, and makes them consistent again."""
