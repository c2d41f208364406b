"""`ldm-unet`: the UNet of latent diffusion (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models").

It is guided-diffusion's UNet on the latents of a first stage, whose attention may be a spatial transformer with cross-attention to a
context: embedded labels, words or boxes. Field names of the specification are the arguments of CompVis/latent-diffusion's `UNetModel`,
and the network's state dict has its keys.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Self

import torch
from pydantic import BeforeValidator, model_validator
from torch import Tensor, nn

from etsdm.backbones.adm import ADMUNet, ADMUNetwork
from etsdm.backbones.ldm_presets import LDM_PRESETS
from etsdm.backbones.transformer import SpatialTransformer
from etsdm.errors import PartError
from etsdm.registry import backbones, field_error
from etsdm.registry.counts import Channels, Depth

__all__ = ["LDMUNet", "LDMUNetwork"]

# The original sets -1 for None, and allows it beside num_head_channels alone.
UnsetHeads = BeforeValidator(lambda value: 1 if value == -1 else value)


@backbones.register("ldm-unet")
class LDMUNet(ADMUNet):
    """UNet of latent diffusion, with the attention of `adm-unet` or spatial transformers.

    The fields are those of `adm-unet`, of which `num_heads_upsample` has no effect in spatial transformers and without `legacy`, and
    these:

    Attributes:
        num_heads: attention heads, if `num_head_channels` is not set; -1 is taken as 1.
        use_spatial_transformer: attention layers are spatial transformers.
        transformer_depth: transformer blocks of each spatial transformer.
        context_dim: channels of the context; required by spatial transformers, and only by them.
        label_context: the context is one token, a learned embedding of the label; otherwise labels are added to the time embedding
            and the context is an argument.
        legacy: a head of a spatial transformer has width // heads channels, which differ from `num_head_channels` if that does not
            divide the width; otherwise it has `num_head_channels`.
    """

    num_heads: Annotated[Channels, UnsetHeads] = 1
    use_spatial_transformer: bool = False
    transformer_depth: Depth = 1
    context_dim: Channels | None = None
    label_context: bool = False
    legacy: bool = True

    def heads(self, width: int, in_decoder: bool = False) -> int:
        """Number of heads of an attention layer with `width` channels."""
        return super().heads(width, in_decoder and self.legacy and not self.use_spatial_transformer)

    def head_channels(self, width: int) -> int:
        """Channels of a head of a spatial transformer with `width` channels."""
        if self.num_head_channels is not None and not self.legacy:
            return self.num_head_channels
        return width // self.heads(width)

    @model_validator(mode="after")
    def _check_context(self) -> Self:
        if self.use_spatial_transformer and self.context_dim is None:
            message = "is missing; give the channels of the context, which use_spatial_transformer needs"
            raise field_error("LDMUNet", ("context_dim",), message)
        if self.context_dim is not None and not self.use_spatial_transformer:
            message = f"{self.context_dim} is given, but only spatial transformers take a context; set use_spatial_transformer"
            raise field_error("LDMUNet", ("context_dim",), message, self.context_dim)
        if self.label_context and (self.num_classes is None or self.context_dim is None):
            message = "a label becomes a context only with classes and spatial transformers; set num_classes and context_dim"
            raise field_error("LDMUNet", ("label_context",), message, self.label_context)
        return self

    @property
    def takes_context(self) -> bool:
        """Whether the network has an argument `context`."""
        return self.context_dim is not None and not self.label_context

    def check(self, conditions: Collection[str]) -> None:
        """As `Backbone.check`; a spatial transformer needs its context."""
        if self.takes_context and "context" not in conditions:
            message = f"{self.context_dim} channels of a context, but data sets have none; set label_context to make it of labels"
            raise PartError("context_dim", message)

    def _check_head_sizes(self) -> None:
        if not self.use_spatial_transformer:
            super()._check_head_sizes()
            return
        # A spatial transformer projects to its own width, so heads need not divide the width of the level.
        field = "num_head_channels" if self.num_head_channels else "num_heads"
        value = getattr(self, field)
        narrowest = min([self.widths[-1], *(width for level, width in enumerate(self.widths) if self.has_attention(level))])
        if value > narrowest:
            message = f"{value} is more than the {narrowest} channels of a spatial transformer; give {narrowest} or less"
            raise field_error("LDMUNet", (field,), message, value)

    def empty_inputs(self, batch: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Inputs as of any `Backbone`, and a context of one token."""
        x, time, cond = super().empty_inputs(batch)
        return x, time, {**cond, "context": torch.empty(batch, 1, self.context_dim or 0)} if self.takes_context else cond

    def build(self) -> LDMUNetwork:
        return LDMUNetwork(self)


for name, (description, fields) in LDM_PRESETS.items():
    backbones.preset(name, LDMUNet, description, **fields)


class LDMUNetwork(ADMUNetwork):
    """Network of an `LDMUNet`."""

    spec: LDMUNet

    def forward(self, x: Tensor, time: Tensor, y: Tensor | None = None, *, context: Tensor | None = None) -> Tensor:
        """Evaluates the network.

        Args:
            x: latents, (B, in_channels, H, W), H and W multiples of the specification's `divisor`.
            time: time input, any finite values, (B,).
            y: class labels, (B,), if and only if `num_classes` is set.
            context: context of the cross-attention, (B, S, context_dim), if and only if the specification `takes_context`.

        Returns:
            (B, out_channels, H, W), in the dtype of x.

        Raises:
            ValueError: a shape does not fit, or a label or a context is missing or not expected.
        """
        self._check(x, time, y)
        self._check_context(x, context)
        if self.spec.label_context:
            context, y = self.label_context(y)[:, None], None
        if context is not None:
            context = context.to(x.dtype)
        return self._levels(x, self._embedding(x, time, y), context).to(x.dtype)

    def _embed_labels(self, num_classes: int) -> None:
        if self.spec.label_context:
            self.label_context = nn.Embedding(num_classes, self.spec.context_dim or 0)
        else:
            super()._embed_labels(num_classes)

    def _check_context(self, x: Tensor, context: Tensor | None) -> None:
        if not self.spec.takes_context:
            if context is not None:
                raise ValueError("a context was given to a network that takes none; leave it out, or set context_dim and no label_context")
            return
        dim = self.spec.context_dim
        if context is None:
            raise ValueError(f"the context is missing; give context, (batch, tokens, {dim})")
        if context.ndim != 3 or context.shape[0] != x.shape[0] or context.shape[2] != dim:
            raise ValueError(f"context has shape {tuple(context.shape)}; give ({x.shape[0]}, tokens, {dim})")

    def _attention(self, width: int, in_decoder: bool = False) -> nn.Module:
        spec = self.spec
        if spec.context_dim is None:
            return super()._attention(width, in_decoder)
        return SpatialTransformer(
            width,
            num_heads=spec.heads(width),
            head_channels=spec.head_channels(width),
            depth=spec.transformer_depth,
            context_dim=spec.context_dim,
            norm_groups=spec.norm_groups,
        )
