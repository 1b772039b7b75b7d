"""Turns names into networks and data sets."""
