"""Network of a `dit` (Peebles and Xie 2023, "Scalable Diffusion Models with Transformers").

Patches of the image are tokens with a fixed position embedding. The embedding of time and label, c = t + y, sets shift, scale and gate
of every block (adaLN-Zero),

    x <- x + gate_1(c) attention((1 + scale_1(c)) norm(x) + shift_1(c))
    x <- x + gate_2(c) mlp((1 + scale_2(c)) norm(x) + shift_2(c)),

and a last such norm and a linear map give the patches of the output. All gates, and the last map, start at zero: a fresh block is
the identity. Parameters have the names of facebookresearch/DiT; its `pos_embed`, a parameter without a gradient, is a buffer here, with
the same key. Its null class is counted in `num_classes`; training, not the network, drops labels.
"""

from __future__ import annotations

import torch
from timm.layers.activations import GELUTanh
from timm.layers.drop import DropPath
from timm.layers.mlp import Mlp
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from etsdm.backbones.base import Backbone
from etsdm.backbones.kernels import Attention
from etsdm.backbones.layers import timestep_embedding, zero_init
from etsdm.backbones.network import Network

__all__ = ["DiTNetwork"]

TIME_CHANNELS = 256  # channels of the sinusoids of time


def position_embedding(side: int, channels: int) -> Tensor:
    """Sinusoidal position embedding of column and row.

    With D = channels, the first half embeds the column, the second the row; in each half channel i < D/4 is sin(p w_i) and channel
    D/4 + i is cos(p w_i), w_i = 10000^(-4i / D).

    Args:
        side: patches in a row and in a column.
        channels: a multiple of 4.

    Returns:
        float32, (side * side, channels), row by row.
    """
    frequencies = 10000.0 ** (-torch.arange(channels // 4, dtype=torch.float64) * 4 / channels)
    phase = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    place = torch.cat([phase.sin(), phase.cos()], dim=1)  # (side, D/2)
    column, row = place.expand(side, side, -1), place[:, None].expand(side, side, -1)
    return torch.cat([column, row], dim=2).flatten(0, 1).float()


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shifts and scales tokens. Args: x: (B, T, D). shift, scale: (B, D). Returns: (1 + scale) x + shift, (B, T, D)."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


def xavier_init(module: nn.Module) -> None:
    """Xavier initialisation of a linear map or of the patch embedding, as in the original."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.flatten(1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class TimeEmbedding(nn.Module):
    """MLP of the sinusoids of time, (B, TIME_CHANNELS) -> (B, hidden_size)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        layers = nn.Linear(TIME_CHANNELS, hidden_size), nn.Linear(hidden_size, hidden_size)
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(layers[0], nn.SiLU(), layers[1])

    def forward(self, sinusoids: Tensor) -> Tensor:
        out: Tensor = self.mlp(sinusoids)
        return out


class LabelEmbedding(nn.Module):
    """Label embedding, (B,) -> (B, hidden_size)."""

    def __init__(self, num_classes: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes, hidden_size)
        nn.init.normal_(self.embedding_table.weight, std=0.02)

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.embedding_table(y)
        return out


class SelfAttention(Attention):
    """Multi-head self-attention over tokens; the output channels of `qkv` are (qkv, heads, d)."""

    def __init__(self, channels: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, T, D). Returns: the same shape."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out: Tensor = self.proj_drop(self.proj(self.attention(q, k, v).transpose(1, 2).flatten(2)))
        return out


class DiTBlock(nn.Module):
    """Transformer block with adaLN-Zero: attention and MLP, each with shift, scale and gate from the condition."""

    def __init__(self, width: int, num_heads: int, *, mlp_ratio: float, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = SelfAttention(width, num_heads, dropout)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio), act_layer=GELUTanh, drop=dropout)
        self.drop_path = DropPath(drop_path)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.apply(xavier_init)
        zero_init(self.adaLN_modulation)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Args: x: tokens, (B, T, D). c: condition, (B, D). Returns: (B, T, D)."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + self.drop_path(gate_1[:, None] * self.attn(modulate(self.norm1(x), shift_1, scale_1)))
        x = x + self.drop_path(gate_2[:, None] * self.mlp(modulate(self.norm2(x), shift_2, scale_2)))
        return x


class FinalLayer(nn.Module):
    """Linear map of tokens to the pixels of their patches, after adaLN."""

    def __init__(self, width: int, patch_channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = zero_init(nn.Linear(width, patch_channels))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), zero_init(nn.Linear(width, 2 * width)))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Args: x: tokens, (B, T, D). c: condition, (B, D). Returns: (B, T, patch_size^2 * out_channels), channels last."""
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        out: Tensor = self.linear(modulate(self.norm_final(x), shift, scale))
        return out


class DiTNetwork(Network):
    """Network of a `DiT`; arguments are its fields."""

    fixed_size = True
    pos_embed: Tensor

    def __init__(
        self,
        spec: Backbone,
        *,
        patch_size: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__(spec)
        width, self.patch_size, self.side = hidden_size, patch_size, spec.image_size // patch_size
        self.register_buffer("pos_embed", position_embedding(self.side, width)[None])
        self.x_embedder = PatchEmbed(spec.image_size, patch_size, spec.in_channels, width)
        xavier_init(self.x_embedder.proj)
        self.t_embedder = TimeEmbedding(width)
        if spec.num_classes is not None:
            self.y_embedder = LabelEmbedding(spec.num_classes, width)
        self.blocks = nn.ModuleList(
            DiTBlock(width, num_heads, mlp_ratio=mlp_ratio, dropout=dropout, drop_path=drop_path * i / max(depth - 1, 1))
            for i in range(depth)
        )
        self.final_layer = FinalLayer(width, patch_size**2 * spec.out_channels)

    def _output(self, x: Tensor, time: Tensor, y: Tensor | None) -> Tensor:
        c = self.t_embedder(timestep_embedding(time, TIME_CHANNELS).to(x.dtype))
        if y is not None:
            c = c + self.y_embedder(y)
        tokens = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            tokens = self._run(block, tokens, c)
        p, side = self.patch_size, self.side
        patches = self.final_layer(tokens, c).unflatten(2, (p, p, -1)).unflatten(1, (side, side))
        # (B, row, column, row in patch, column in patch, channel)
        images: Tensor = patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return images
