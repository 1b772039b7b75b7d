"""Rows against each other: ranked, compared, regressed, and beside published figures."""
