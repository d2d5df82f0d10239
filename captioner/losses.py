"""What a training minimises: the right loss of a caption, and two originals' own, flaws included.

Shapes:  B batch   P prefix tokens   S opening   D token embedding   T caption tokens
         V vocabulary
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from captioner.errors import ModelError
from captioner.examples import Batch
from captioner.model import CaptionModel

Loss = Callable[[CaptionModel, Batch], tuple[Tensor, Tensor]]
"""Of a model and a batch to the summed loss (nats) and how many tokens it is summed over."""


def caption_loss(model: CaptionModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy (nats) of captions and their end tokens, and how many tokens those are.

    The network reads [opening, caption]; the logits at the opening's last position and at every
    caption token are held against caption and end token. What follows a caption is masked by
    its position, so no token id is special.
    """
    start_BSD = model.opening.start(model.prefix(batch.images))
    token_BT, length_B = batch.tokens.to(start_BSD.device), batch.lengths.to(start_BSD.device)
    caption_BTD = model.language.embed(token_BT).to(start_BSD.dtype)
    columns = token_BT.shape[1] + 1
    logits_BTV = model.language.logits(torch.cat([start_BSD, caption_BTD], dim=1), last=columns)
    target_BT = functional.pad(token_BT, (0, 1))
    target_BT[torch.arange(len(length_B)), length_B] = end_id(model)
    counted_BT = torch.arange(columns, device=length_B.device)[None] <= length_B[:, None]
    loss = functional.cross_entropy(
        logits_BTV[counted_BT].float(), target_BT[counted_BT], reduction="sum"
    )
    return loss, counted_BT.sum()


def clipcap_loss(model: CaptionModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """ClipCap's: captions have no end token, and token 0 counts nowhere, not even in a caption.

    Padding has id 0 and is ignored by that id (train.py, `ignore_index=0`).
    """
    prefix_BPD = model.prefix(batch.images)
    token_BT = _padded(batch, 0).to(prefix_BPD.device)
    caption_BTD = model.language.embed(token_BT).to(prefix_BPD.dtype)
    inputs = torch.cat([prefix_BPD, caption_BTD], dim=1)
    logits_BTV = model.language.logits(inputs, last=token_BT.shape[1] + 1)[:, :-1]
    loss = functional.cross_entropy(
        logits_BTV.flatten(0, 1).float(), token_BT.flatten(), ignore_index=0, reduction="sum"
    )
    return loss, (token_BT != 0).sum()


def clipxgpt_loss(model: CaptionModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """CLIPxGPT's: softmax twice, padding learnt as the end token, the first token never learnt.

    Captions are padded with the end token, whose positions count; position embeddings are added
    by hand beside GPT-2's own; images of a batch attend to each other in the mapper, which
    `TrainingRun` sees to (model.py, `train_forward`).
    """
    prefix_BPD = model.prefix(batch.images)
    whole_BT = _padded(batch, end_id(model)).to(prefix_BPD.device)
    token_BT, target_BT = whole_BT[:, :-1], whole_BT[:, 1:]
    caption_BTD = model.language.embed(token_BT).to(prefix_BPD.dtype)
    inputs = torch.cat([prefix_BPD, caption_BTD], dim=1)
    table_TD = model.language.position_table
    if table_TD is None:
        raise ModelError("The clipxgpt loss needs a language model with position embeddings.")
    inputs = inputs + table_TD[: inputs.shape[1]]
    place_S = torch.arange(inputs.shape[1], device=inputs.device)
    length_B = batch.lengths.to(inputs.device) + prefix_BPD.shape[1]
    seen_BS = place_S < length_B[:, None]
    logits_BTV = model.language.logits(inputs, last=token_BT.shape[1], seen_BT=seen_BS)
    chance_BTV = logits_BTV.float().softmax(dim=-1)
    loss = functional.cross_entropy(chance_BTV.flatten(0, 1), target_BT.flatten(), reduction="sum")
    return loss, torch.tensor(target_BT.numel(), device=loss.device)


def end_id(model: CaptionModel) -> int:
    """The token that ends a caption; raises ModelError if the model has none."""
    if not model.decoding.stop_ids:
        raise ModelError("The model has no stop token to train with.")
    return model.decoding.stop_ids[0]


def _padded(batch: Batch, token: int) -> Tensor:
    """The captions with `token` after their ends: token_BT."""
    place_T = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    after_BT = place_T >= batch.lengths[:, None]
    return batch.tokens.masked_fill(after_BT, token)


LOSSES: dict[str, Loss] = {
    "caption": caption_loss,
    "clipcap": clipcap_loss,
    "clipxgpt": clipxgpt_loss,
}
