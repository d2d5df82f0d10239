"""Decoding at the machine's speed: slots that captions enter and leave, and what computes them.

`slots` is the seam between a strategy and a network, `gpt2` and `transformers` fill it, `head`
turns hidden states into the likeliest tokens, `pages` holds keys and values.
"""
