"""CLIP's text tower over as many positions as the longest text of a batch needs.

Each position sees only those before it, and the embedding is read where the text ends, so that
the padding behind it, most of the 77 positions, can be left out.
Source: open_clip's CLIP.encode_text.

Shapes:  B batch   C embedding   D width   T tokens
"""

from typing import Any

import open_clip
import torch
from open_clip.transformer import Transformer
from torch import Tensor, nn


def encode_text(model: Any, token_BT: Tensor) -> Tensor:
    """text_BC as `model.encode_text` gives it, not normalised, without the work for padding.

    A tower that is not causal, or that is read elsewhere, runs as it is.
    """
    if not _is_causal(model):
        plain_BC: Tensor = model.encode_text(token_BT)
        return plain_BC
    dtype = model.transformer.get_cast_dtype()
    end_B = _ends(model, token_BT)
    length = int(end_B.max()) + 1
    embedded_BTD = model.token_embedding(token_BT[:, :length]).to(dtype)
    embedded_BTD = embedded_BTD + model.positional_embedding[:length].to(dtype)
    mask_TT = model.attn_mask[:length, :length]
    out_BTD = model.transformer(embedded_BTD, attn_mask=mask_TT)
    end_BD = model.ln_final(out_BTD[torch.arange(len(end_B), device=end_B.device), end_B])
    projection = model.text_projection
    if projection is None:
        text_BC: Tensor = end_BD
    else:
        linear = isinstance(projection, nn.Linear)
        text_BC = projection(end_BD) if linear else end_BD @ projection
    return text_BC


def _is_causal(model: Any) -> bool:
    return (
        type(model) is open_clip.CLIP
        and type(model.transformer) is Transformer
        and model.attn_mask is not None
        and model.text_pool_type in {"argmax", "eos"}
    )


def _ends(model: Any, token_BT: Tensor) -> Tensor:
    """Where each text ends: at its highest token, or at the tokenizer's own mark."""
    if model.text_pool_type == "argmax":
        return token_BT.argmax(dim=-1)
    is_end_BT: Tensor = token_BT == model.text_eos_id
    return is_end_BT.int().argmax(dim=-1)
