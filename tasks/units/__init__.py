"""The work itself, one shard at a time, as plain functions that a lane can run without Prefect."""
