"""Turns what a user asked for into settings that are kept: the join of captioner and storage.

A request is made without torch, so that a finished root is told from files alone; resolving one
may load weights, so it is done in a lane, once.
"""
