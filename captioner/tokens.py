"""Tokenizers kept as tokenizer.json files."""

from pathlib import Path

from tokenizers import Tokenizer

from captioner.errors import ModelError


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json; raises ModelError if there is none that can be read."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every bad file
        reason = " ".join(str(error).split())
        raise ModelError(f"The tokenizer {str(path)!r} cannot be read: {reason}.") from error
