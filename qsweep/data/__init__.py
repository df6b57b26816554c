"""Data sets: the catalog, where they come from, and the decoded files."""
