"""open_clip's transformers with packed linear layers, for inference in bfloat16 on a CPU.

Only the blocks and the patch embedding that are known exactly are replaced; whatever else a tower
holds stays as open_clip built it, and so does a tower whose weights gain nothing by packing.

Shapes:  B batch   T tokens   D width   H heads   K width of a head
"""

from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from captioner.packed import PackedLinear, packs_linear


def pack_towers(model: nn.Module) -> None:
    """Replace in `model`, already in its precision and for inference, what packing makes faster."""
    for part in list(model.modules()):
        if isinstance(part, Transformer):
            part.resblocks = nn.ModuleList(_packed(block) for block in part.resblocks)
        if isinstance(part, VisionTransformer) and _is_patches(part.conv1):
            part.conv1 = PackedPatches(part.conv1)


class PackedBlock(nn.Module):
    """What a ResidualAttentionBlock computes of tokens_BTD, its linear layers packed."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__()
        attention, mlp = block.attn, block.mlp
        self.heads: int = attention.num_heads
        self.ln_1, self.ls_1 = block.ln_1, block.ls_1
        self.ln_2, self.ls_2 = block.ln_2, block.ls_2
        self.qkv = PackedLinear(attention.in_proj_weight, attention.in_proj_bias)
        self.out = PackedLinear.of(attention.out_proj)
        fused = type(mlp.gelu) is nn.GELU and mlp.gelu.approximate == "none"
        self.wide = PackedLinear.of(mlp.c_fc, "gelu" if fused else "none")
        self.act = nn.Identity() if fused else mlp.gelu
        self.narrow = PackedLinear.of(mlp.c_proj)
        self._dtype: torch.dtype = mlp.c_fc.weight.dtype

    def get_weight_dtype(self) -> torch.dtype:
        """The precision of the linear layers, for open_clip, which asks its first block."""
        return self._dtype

    def forward(self, tokens_BTD: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """tokens_BTD after attention and the MLP."""
        tokens_BTD = tokens_BTD + self.ls_1(self._attended(self.ln_1(tokens_BTD), attn_mask))
        wide_BTF = self.act(self.wide(self.ln_2(tokens_BTD)))
        after_BTD: Tensor = tokens_BTD + self.ls_2(self.narrow(wide_BTF))
        return after_BTD

    def _attended(self, tokens_BTD: Tensor, mask_TT: Tensor | None) -> Tensor:
        batch, length, width = tokens_BTD.shape
        all_BTXHK = self.qkv(tokens_BTD).view(batch, length, 3, self.heads, -1)
        q_BHTK, k_BHTK, v_BHTK = all_BTXHK.permute(2, 0, 3, 1, 4)
        mask_TT = None if mask_TT is None else mask_TT.to(tokens_BTD.dtype)
        mixed_BHTK = functional.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, mask_TT)
        attended_BTD: Tensor = self.out(mixed_BHTK.transpose(1, 2).reshape(batch, length, width))
        return attended_BTD


class PackedPatches(nn.Module):
    """A convolution whose stride is its kernel, as one linear layer over the patches."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.height, self.width = conv.kernel_size
        self.linear = PackedLinear(conv.weight.flatten(1), conv.bias)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Features of the patches, as the convolution lays them out: features_BDHW."""
        batch, channels, height, width = pixels_BCHW.shape
        rows, columns = height // self.height, width // self.width
        cells = pixels_BCHW[:, :, : rows * self.height, : columns * self.width]
        cells = cells.reshape(batch, channels, rows, self.height, columns, self.width)
        flat = cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows, columns, -1)
        features_BDHW: Tensor = self.linear(flat).permute(0, 3, 1, 2)
        return features_BDHW


def _packed(block: Any) -> Any:
    """The block, packed if it is one that this module knows exactly and that gains by it."""
    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return block
    attention = block.attn
    known = attention.in_proj_weight is not None and attention.bias_k is None
    known = known and attention.batch_first and not attention.add_zero_attn
    gains = known and packs_linear(attention.in_proj_weight) and packs_linear(block.mlp[0].weight)
    return PackedBlock(block) if gains else block


def _is_patches(conv: Any) -> bool:
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == conv.stride
        and conv.padding == (0, 0)
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and packs_linear(conv.weight)
    )
