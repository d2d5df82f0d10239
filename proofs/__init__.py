"""Proofs that take minutes: each runs by itself, is kept once finished, and gives figures."""
