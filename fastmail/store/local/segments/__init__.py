"""Content in segments: what they hold, compaction, conversion, and the check of all of them."""
