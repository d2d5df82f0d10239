"""What a training minimises: the right loss of a caption, and two originals' own, flaws included.

Which positions count is worked out on the CPU, where the batch comes from, and goes to a GPU from
pinned memory, so that it is not waited for. Not run on a GPU yet.
Shapes:  B batch   P prefix tokens   S opening   D token embedding   T caption tokens
         N counted positions   V vocabulary
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from captioner.errors import ModelError
from captioner.examples import Batch
from captioner.grouping import like_lengths
from captioner.model import CaptionModel
from captioner.token_loss import Part, double_softmax_loss, token_loss

Loss = Callable[[CaptionModel, Batch], tuple[Tensor, Tensor]]
"""Of a model and a batch to the summed loss (nats) and how many tokens it is summed over."""


def caption_loss(model: CaptionModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy (nats) of captions and their end tokens, and how many tokens those are.

    The network reads [opening, caption]; the logits at the opening's last position and at every
    caption token are held against caption and end token. What follows a caption is masked by
    its position, so no token id is special.
    """
    start_BSD = model.opening.start(_prefix(model, batch))
    target_BT = functional.pad(batch.tokens, (0, 1))
    target_BT[torch.arange(len(batch.lengths)), batch.lengths] = end_id(model)
    counted_BT = torch.arange(target_BT.shape[1]) <= batch.lengths[:, None]
    return _counted(model, start_BSD, batch, target_BT, counted_BT)


def clipcap_loss(model: CaptionModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """ClipCap's: captions have no end token, and token 0 counts nowhere, not even in a caption.

    Padding has id 0 and is ignored by that id (train.py, `ignore_index=0`).
    """
    prefix_BPD = _prefix(model, batch)
    token_BT = _padded(batch, 0)
    return _counted(model, prefix_BPD, batch, token_BT, token_BT != 0)


def clipxgpt_loss(model: CaptionModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """CLIPxGPT's: softmax twice, padding learnt as the end token, the first token never learnt.

    Captions are padded with the end token, whose positions count; position embeddings are added
    by hand beside GPT-2's own; images of a batch attend to each other in the mapper, which
    `TrainingRun` sees to (model.py, `train_forward`). Captions of one token leave nothing to learn.
    """
    prefix_BPD = _prefix(model, batch)
    whole_BT = _padded(batch, end_id(model))
    token_BT, target_BT = whole_BT[:, :-1], whole_BT[:, 1:]
    inputs = torch.cat([prefix_BPD, _embedded(model, token_BT, prefix_BPD)], dim=1)
    table_TD = model.language.position_table
    if table_TD is None:
        raise ModelError("The clipxgpt loss needs a language model with position embeddings.")
    inputs = inputs + table_TD[: inputs.shape[1]]
    length_B = batch.lengths + prefix_BPD.shape[1]
    seen_BS = _sent(torch.arange(inputs.shape[1]) < length_B[:, None], inputs.device)
    target_BT = _sent(target_BT, inputs.device)
    loss = double_softmax_loss(model.language, inputs, target_BT, seen_BS)
    return loss, torch.tensor(target_BT.numel())


def end_id(model: CaptionModel) -> int:
    """The token that ends a caption; raises ModelError if the model has none."""
    if not model.decoding.stop_ids:
        raise ModelError("The model has no stop token to train with.")
    return model.decoding.stop_ids[0]


def _prefix(model: CaptionModel, batch: Batch) -> Tensor:
    device = next(model.mapper.parameters()).device
    return model.prefix(_sent(batch.images, device))


def _embedded(model: CaptionModel, token_BT: Tensor, like: Tensor) -> Tensor:
    return model.language.embed(_sent(token_BT, like.device)).to(like.dtype)


def _sent(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device; a GPU copies from pinned memory alone without being waited for."""
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)


def _counted(
    model: CaptionModel, start_BSD: Tensor, batch: Batch, target_BT: Tensor, counted_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss of the counted targets, the first of which is foretold by the start's last place.

    Captions of like length are computed together, which changes nothing but the time it takes.
    """
    device = start_BSD.device
    token_BTD = _embedded(model, batch.tokens, start_BSD)
    parts, targets = [], []
    for rows in like_lengths(batch.lengths, device.type):
        width = int(batch.lengths[rows].max())
        here = _sent(rows, device)
        inputs_bSD = torch.cat([start_BSD[here], token_BTD[here, :width]], dim=1)
        counted_bT = counted_BT[rows, : width + 1]
        row_N, column_N = counted_bT.nonzero(as_tuple=True)
        at_N = row_N * inputs_bSD.shape[1] + start_BSD.shape[1] - 1 + column_N
        parts.append(Part(inputs_bSD, _sent(at_N, device)))
        targets.append(target_BT[rows, : width + 1][counted_bT])
    target_N = torch.cat(targets)
    loss = token_loss(model.language, parts, _sent(target_N, device))
    return loss, torch.tensor(len(target_N))


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
