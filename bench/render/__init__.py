"""Shows entries and boards to people."""
