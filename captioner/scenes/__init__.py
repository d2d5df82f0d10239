"""Drawn scenes: pictures whose every caption can be checked, for training, proofs and demos."""

from captioner.scenes.draw import Member, draw, draw_members
from captioner.scenes.judge import Claims, ParseError, attribute_true, mistakes, parse
from captioner.scenes.language import (
    Ground,
    Group,
    Scene,
    any_scene,
    describe,
    is_held_out,
    near,
    sample,
)
from captioner.scenes.phrases import captions, phrase

__all__ = [
    "Claims",
    "Ground",
    "Group",
    "Member",
    "ParseError",
    "Scene",
    "any_scene",
    "attribute_true",
    "captions",
    "describe",
    "draw",
    "draw_members",
    "is_held_out",
    "mistakes",
    "near",
    "parse",
    "phrase",
    "sample",
]
