"""What the tests of `bench verify` and `bench challenge` ask."""

from bench.attack.suites import Budget
from bench.track import load_track

SHAPE, N = (1, 8, 8), 60
TRACK = load_track("digits-linf-v1")
NAME = f"bench-digits-cnn--quant8--n{N}"
BUDGET = Budget(iterations=20, targets=3, queries=100, deployed_queries=20)
"""Of every attack here: enough that other seeds find nothing more on so small a network."""
