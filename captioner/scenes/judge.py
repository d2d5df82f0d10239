"""What a caption claims about a scene, read by a small grammar, and whether it is true.

Words are read in any order the grammar allows: adjectives before their noun, `with` and `that
are` after it, places before or after a group, the background anywhere. What is not understood
is an error, never skipped.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from captioner.scenes.language import GROUND_WORDS, GROUP_WORDS, Scene
from captioner.scenes.phrases import NUMBERS, OPPOSITE, PLACES, PLURALS, RELATING, SIDES, WITH

Facts = Mapping[str, str | int]

_COUNT: Final = {word: n for n, words in NUMBERS.items() for word in words}
_NOUN: Final = {
    **{shape: (shape, False) for shape in GROUP_WORDS["shape"]},
    **{PLURALS.get(shape, f"{shape}s"): (shape, True) for shape in GROUP_WORDS["shape"]},
}
_OF_GROUP: Final = {
    word: attribute
    for attribute in ("size", "texture", "colour")
    for word in GROUP_WORDS[attribute]
}
_OF_GROUND: Final = {word: attribute for attribute, words in GROUND_WORDS.items() for word in words}
_BARE: Final = {noun: texture for texture, noun in WITH.items()}
_GLUE: Final = ("and", "with", "on", "there is", "there are", "a picture of")
_PHRASES: Final = {
    **{tuple(said.split()): ("P", place) for place, ways in PLACES.items() for said in ways},
    **{
        tuple(said.split()): ("R", relation) for relation, ways in RELATING.items() for said in ways
    },
    **{tuple(said.split()): ("", "") for said in _GLUE},
}
_LONGEST: Final = max(map(len, _PHRASES))


class ParseError(ValueError):
    """A caption that says nothing the grammar knows; the message gives the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a caption states: attributes it leaves out are absent from the mappings."""

    groups: tuple[Facts, ...]
    layout: str | None
    ground: Facts


def attribute_true(caption: str, scene: Scene) -> bool:
    """Whether everything `caption` states holds in `scene` and it leaves no attribute out."""
    return not mistakes(caption, scene)


def mistakes(caption: str, scene: Scene) -> tuple[str, ...]:
    """Name what is false or missing in `caption`: `("first colour", "layout")`; empty if right.

    A caption that cannot be read has the one mistake `grammar`.
    """
    try:
        claims = parse(caption)
    except ParseError:
        return ("grammar",)
    if len(claims.groups) != len(scene.groups):
        return ("groups",)
    wrong = []
    for name, said, group in zip(("first", "second"), claims.groups, scene.groups, strict=False):
        truth = asdict(group)
        wrong += [f"{name} {word}" for word in GROUP_WORDS if said.get(word) != truth[word]]
    if claims.layout != scene.layout:
        wrong.append("layout")
    truth = asdict(scene.ground)
    wrong += [f"ground {word}" for word in GROUND_WORDS if claims.ground.get(word) != truth[word]]
    return tuple(wrong)


def parse(caption: str) -> Claims:
    """Read the claims of `caption`; groups come in the scene's order: left or upper one first.

    Raises ParseError if the caption is outside the grammar or contradicts itself.
    """
    reader = _Reader(caption)
    while reader.words:
        reader.read_part()
    first, second = [*reader.groups, {}, {}][:2]
    if reader.parts in ("G", "GP", "PG"):
        layout = reader.places[0] if reader.places else None
        return Claims(groups=(first,), layout=layout, ground=reader.ground)
    if reader.parts == "GG":
        return Claims(groups=(first, second), layout=None, ground=reader.ground)
    if reader.parts == "GRG":
        relation = reader.relations[0]
    elif reader.parts in ("GPGP", "PGPG", "GPPG", "PGGP"):
        relation = _relation(*reader.places)
    else:
        raise ParseError(f"groups (G), places (P) and relations (R) stand as {reader.parts!r}")
    if relation in OPPOSITE:
        return Claims(groups=(first, second), layout=relation, ground=reader.ground)
    relation = next(turned for turned, opposite in OPPOSITE.items() if opposite == relation)
    return Claims(groups=(second, first), layout=relation, ground=reader.ground)


def _relation(place: str, other: str) -> str:
    """Turn the opposite sides of two groups into the first one's relation to the second."""
    for relation, sides in SIDES.items():
        ends = [_PHRASES[tuple(side.split())][1] for side in sides]
        if [place, other] == ends:
            return relation
        if [other, place] == ends:
            return OPPOSITE[relation]
    raise ParseError(f"two groups at {place} and {other} stand in no relation")


class _Reader:
    """Eats a caption from the front, noting groups, ground, places and relations as they come."""

    def __init__(self, caption: str) -> None:
        self.words = re.findall(r"[^\s,.]+", caption.lower())
        self.parts = ""
        self.groups: list[Facts] = []
        self.places: list[str] = []
        self.relations: list[str] = []
        self.ground: Facts = {}

    def read_part(self) -> None:
        """Eat one phrase of the table, or else a noun with what belongs to it."""
        for length in range(min(_LONGEST, len(self.words)), 0, -1):
            phrase = tuple(self.words[:length])
            if phrase in _PHRASES:
                kind, value = _PHRASES[phrase]
                self._eat(length)
                self.parts += kind
                {"P": self.places, "R": self.relations, "": []}[kind].append(value)
                return
        if self.words[:3] == ["the", "background", "is"]:
            self._eat(3)
            self._note_ground(self._adjectives())
        else:
            self._read_noun()

    def _read_noun(self) -> None:
        number = self._eat(1)[0] if self.words[0] in _COUNT else None
        adjectives = self._adjectives()
        noun = self._eat(1)[0] if self.words else "the end"
        if noun == "background" and number in (None, "a"):
            self._note_ground(adjectives)
        elif noun in _NOUN:
            shape, plural = _NOUN[noun]
            if number is not None and (_COUNT[number] > 1) != plural:
                raise ParseError(f"{number} does not go with {noun}")
            facts = _sort([*adjectives, *self._afterwards(plural=plural)], _OF_GROUP)
            if number is not None:
                facts["count"] = _COUNT[number]
            self.groups.append({**facts, "shape": shape})
            self.parts += "G"
        else:
            raise ParseError(f"expected a noun, got {noun!r}")

    def _afterwards(self, *, plural: bool) -> list[str]:
        """Eat `with stripes` and `that are ... and ...` behind a noun."""
        if self.words[:1] == ["with"] and self.words[1:2] and self.words[1] in _BARE:
            return [_BARE[self._eat(2)[1]], *self._afterwards(plural=plural)]
        if self.words[:2] == ["that", "are" if plural else "is"]:
            self._eat(2)
            return self._adjectives()
        return []

    def _adjectives(self) -> list[str]:
        """Eat adjectives, with or without `and` between them."""
        found: list[str] = []
        while self.words:
            skip = 1 if found and self.words[0] == "and" else 0
            word = self.words[skip] if len(self.words) > skip else ""
            if word not in _OF_GROUP and word not in _OF_GROUND:
                break
            found.append(self._eat(skip + 1)[skip])
        return found

    def _note_ground(self, adjectives: list[str]) -> None:
        if self.ground:
            raise ParseError("the background is described twice")
        self.ground = _sort(adjectives, _OF_GROUND)

    def _eat(self, n: int) -> list[str]:
        eaten, self.words = self.words[:n], self.words[n:]
        return eaten


def _sort(adjectives: list[str], attributes: Mapping[str, str]) -> dict[str, str | int]:
    """Assign each adjective to its attribute; ParseError if one does not fit or says it again."""
    facts: dict[str, str | int] = {}
    for word in adjectives:
        if word not in attributes:
            raise ParseError(f"{word!r} does not belong to this noun")
        if attributes[word] in facts:
            raise ParseError(f"{word!r} says its {attributes[word]} a second time")
        facts[attributes[word]] = word
    return facts
