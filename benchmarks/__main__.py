"""Runs every benchmark."""

from benchmarks import scaling

scaling.main()
