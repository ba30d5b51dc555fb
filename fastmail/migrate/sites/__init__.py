"""Whole sites that other software keeps in a database: one reader for each, one stream of records, one importer."""
