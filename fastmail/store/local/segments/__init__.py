"""Content in segments: compaction, conversion from and to Maildirs, and the check of all segments."""
