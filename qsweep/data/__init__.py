"""Data sets: the catalog, their sources, and the decoded files."""
