"""Which stages run, in what order, over which shards; the command line."""
