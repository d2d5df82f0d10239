"""A training loop as ClipCap's: fixed padding, float32, logits at every position.

Written from what is known of rmokady/CLIP_prefix_caption (train.py): captions are padded with 0
to min(mean + 10 deviations, longest), a mask covers prefix and caption, the loss is taken at
positions P-1..-2 and ignores token 0, AdamW follows a linear warm-up.
Shapes:  B batch   C image embedding   P prefix tokens   D token embedding   T padded length
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from transformers import get_linear_schedule_with_warmup


class ClipCaption(nn.Module):
    """An MLP that writes a prefix, before a GPT-2."""

    def __init__(self, gpt: Any, image_dim: int, prefix_tokens: int) -> None:
        super().__init__()
        self.gpt, self.prefix_tokens = gpt, prefix_tokens
        self.width = gpt.transformer.wte.weight.shape[1]
        flat = self.width * prefix_tokens
        self.clip_project = nn.Sequential(
            nn.Linear(image_dim, flat // 2), nn.Tanh(), nn.Linear(flat // 2, flat)
        )

    def forward(self, token_BT: Tensor, image_BC: Tensor, mask_BS: Tensor) -> Tensor:
        """Logits at every position of prefix and caption."""
        embedded_BTD = self.gpt.transformer.wte(token_BT)
        prefix_BPD = self.clip_project(image_BC).view(-1, self.prefix_tokens, self.width)
        inputs_BSD = torch.cat((prefix_BPD, embedded_BTD), dim=1)
        logits: Tensor = self.gpt(inputs_embeds=inputs_BSD, attention_mask=mask_BS).logits
        return logits


def padded(captions: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """token_NT with 0 after each caption, and mask_NT of what is a caption's."""
    length = torch.tensor([len(caption) for caption in captions])
    mean, deviation = length.float().mean(), length.float().std()
    width = min(int(mean + 10 * deviation), int(length.max()))
    token_NT = torch.zeros(len(captions), width, dtype=torch.long)
    for row, caption in enumerate(captions):
        cut = torch.tensor(caption[:width])
        token_NT[row, : len(cut)] = cut
    return token_NT, (torch.arange(width) < length[:, None]).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """ClipCap's own, except where a comparison needs others."""

    steps: int
    rate: float = 2e-5
    warmup: int = 5000
    batch_size: int = 40
    seed: int = 0


def peer_training(
    model: ClipCaption, data: TensorDataset, settings: PeerSettings
) -> Iterator[float]:
    """Train on (token_NT, mask_NT, image_NC); yields the loss of each step."""
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.rate)
    schedule = get_linear_schedule_with_warmup(optimiser, settings.warmup, settings.steps)
    order = torch.Generator().manual_seed(settings.seed)
    loader: DataLoader[Any] = DataLoader(
        data, batch_size=settings.batch_size, shuffle=True, drop_last=True, generator=order
    )
    done = 0
    while True:
        for token_BT, mask_BT, image_BC in loader:
            model.zero_grad()
            mask_BS = torch.cat((torch.ones(len(mask_BT), model.prefix_tokens), mask_BT), dim=1)
            logits_BSV = model(token_BT, image_BC, mask_BS)[:, model.prefix_tokens - 1 : -1]
            flat = logits_BSV.reshape(-1, logits_BSV.shape[-1])
            loss = functional.cross_entropy(flat, token_BT.flatten(), ignore_index=0)
            loss.backward()
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            yield loss.item()
            done += 1
            if done == settings.steps:
                return
