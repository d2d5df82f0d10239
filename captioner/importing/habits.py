"""How a family reads embeddings and writes captions, with the ids of the tokenizer at hand."""

from dataclasses import replace

from captioner.configs import EncoderSpec, ModelConfig, Opening
from captioner.decoding import Decoding
from captioner.errors import ModelError
from captioner.importing.assembly import Assembled
from captioner.importing.families import Family
from captioner.importing.image_encoders import encoder_name


def model_config(
    family: Family, assembled: Assembled, encoder: str, normalized: bool | None
) -> ModelConfig:
    """The configuration of an imported model; raises ModelError where a token is lacking."""
    mapper, feature = assembled.mapper, family.feature
    name = encoder and encoder_name(encoder, feature=feature, dim=mapper.image_dim)
    opening = _opening(family, assembled)
    return ModelConfig(
        encoder=EncoderSpec(
            name=name,
            dim=mapper.image_dim,
            feature=feature,
            normalized=family.normalized if normalized is None else normalized,
        ),
        mapper=mapper,
        decoding=_decoding(family, assembled, opening),
        opening=opening,
        wording=family.wording,
    )


def _opening(family: Family, assembled: Assembled) -> Opening:
    if family.opening == "prefix":
        return Opening()
    bos_id = assembled.named.begin_id
    if bos_id is None:
        raise ModelError(f"The tokenizer of {assembled.named.name!r} names no beginning token.")
    return Opening(kind=family.opening, bos_id=bos_id)


def _decoding(family: Family, assembled: Assembled, opening: Opening) -> Decoding:
    """The family's own, ended by its own token, and no longer than there are positions."""
    before = assembled.mapper.prefix_tokens + (opening.bos_id is not None)
    room = assembled.language.positions - before
    if room < 1:
        raise ModelError(
            f"The prefix takes {before} of the {assembled.language.positions} positions that "
            f"{assembled.named.name!r} has: no room for a caption is left."
        )
    most = min(family.decoding.max_tokens, room)
    return replace(family.decoding, max_tokens=most, stop_ids=(_stop(family, assembled),))


def _stop(family: Family, assembled: Assembled) -> int:
    name, language = assembled.named.name, assembled.language
    if not family.stop:
        end_id = assembled.named.end_id
        if end_id is None or end_id >= language.vocabulary:
            raise ModelError(f"The tokenizer of {name!r} names no end token.")
        return end_id
    ids = language.tokens(family.stop)
    if len(ids) != 1 or language.text(ids) != family.stop:  # an unknown token is one, too
        raise ModelError(
            f"The tokenizer of {name!r} has no single token for {family.stop!r}, which ends the "
            "captions of this family."
        )
    return ids[0]
