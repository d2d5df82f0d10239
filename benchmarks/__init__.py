"""Figures of this machine: `python -m benchmarks` prints them all."""
