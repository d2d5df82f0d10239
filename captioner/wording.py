"""From generated tokens to the text of a caption."""

from collections.abc import Callable, Sequence

from captioner.captions import Caption
from captioner.configs import Wording
from captioner.decoding import Decoding, Generated


def caption_of(
    one: Generated, say: Callable[[Sequence[int]], str], wording: Wording, decoding: Decoding
) -> Caption:
    """The caption that `one` is, its text cut at a stop string and worded as the model's are."""
    tokens = list(one.token_ids)
    if one.stop_id is not None and wording.keep_stop:
        tokens.append(one.stop_id)
    text = say(tokens)
    found = [text.find(mark) for mark in decoding.stop_strings if mark in text]
    if found:
        text = text[: min(found)]
    elif one.stop_id is None and wording.drop_cut:
        text = say(tokens[:-1])
    text = text.strip()
    if wording.capital:
        text = text[:1].upper() + text[1:]
    stopped = one.stop_id is not None or bool(found)
    return Caption(text, one.token_ids, one.logprob, one.seed, stopped)
