"""Steps that make a network smaller, and the export of what a user would ship."""
