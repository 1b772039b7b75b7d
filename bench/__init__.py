"""Robustness benchmark and leaderboard for compressed image classifiers."""
