"""What is compared: each module is one side, run in a process of its own (`benchmarks.side`)."""
