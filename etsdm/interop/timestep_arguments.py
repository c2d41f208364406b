"""Timestep arguments of other libraries' networks: name and unit, by class.

A class is known by its top-level package and its name, so that nothing is imported and a module may move. Subclasses are known by
their base. Names and units were read in the sources of the versions below; the units of diffusers are those that its pipelines pass.

    diffusers 0.42                 guided-diffusion 18ff408       denoising-diffusion-pytorch 0031853
    latent-diffusion 29f473e       DiT 00d70ac                    EDM 0a2ff34
    k-diffusion 0541011            sd-scripts 48d368f             torchtitan b5bcd76
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from torch import nn

__all__ = ["INNER", "NOT_A_NETWORK", "TIMESTEP_ARGUMENTS", "TimestepArgument", "known_name", "timestep_argument"]


class TimestepArgument(NamedTuple):
    """Timestep argument of `forward`. Fields: name; unit, None where it depends on the schedule with which the network is used."""

    name: str
    unit: str | None


def _diffusers(argument: str, unit: str | None, names: str) -> dict[str, TimestepArgument]:
    return {f"diffusers.{name}": TimestepArgument(argument, unit) for name in names.split()}


TIMESTEP_ARGUMENTS: dict[str, TimestepArgument] = {
    **_diffusers(
        "timestep",
        "timesteps",
        """
        UNet2DModel UNet2DConditionModel UNet3DConditionModel UNetMotionModel I2VGenXLUNet Kandinsky3UNet UNetControlNetXSModel
        AudioLDM2UNet2DConditionModel UNetFlatConditionModel

        AllegroTransformer3DModel BriaFiboTransformer2DModel BriaTransformer2DModel ChronoEditTransformer3DModel
        CogVideoXTransformer3DModel CogView3PlusTransformer2DModel CogView4Transformer2DModel ConsisIDTransformer3DModel
        DiTTransformer2DModel EasyAnimateTransformer3DModel ErnieImageTransformer2DModel GlmImageTransformer2DModel
        HeliosTransformer3DModel HunyuanDiT2DModel HunyuanImageTransformer2DModel HunyuanVideo15Transformer3DModel
        HunyuanVideoFramepackTransformer3DModel HunyuanVideoTransformer3DModel JoyImageEditPlusTransformer3DModel
        JoyImageEditTransformer3DModel Kandinsky5Transformer3DModel LatteTransformer3DModel LTXVideoTransformer3DModel
        MotifVideoTransformer3DModel PixArtTransformer2DModel PriorTransformer SanaVideoTransformer3DModel SD3Transformer2DModel
        SkyReelsV2Transformer3DModel Transformer2DModel WanAnimateTransformer3DModel WanTransformer3DModel WanVACETransformer3DModel

        ControlNetModel ControlNetUnionModel HunyuanDiT2DControlNetModel HunyuanDiT2DMultiControlNetModel MultiControlNetModel
        MultiControlNetUnionModel SanaControlNetModel SD3ControlNetModel SD3MultiControlNetModel SparseControlNetModel
        """,
    ),
    **_diffusers("timesteps", "timesteps", "HiDreamImageTransformer2DModel"),
    **_diffusers(
        "timestep",
        "unit-interval",
        """
        AuraFlowTransformer2DModel BriaFibo2Transformer2DModel ChromaTransformer2DModel Flux2Transformer2DModel FluxTransformer2DModel
        Krea2Transformer2DModel LongCatImageTransformer2DModel NucleusMoEImageTransformer2DModel OvisImageTransformer2DModel
        PRXTransformer2DModel QwenImage21Transformer2DModel QwenImageTransformer2DModel StableAudioDiTModel

        FluxControlNetModel FluxMultiControlNetModel QwenImageControlNetModel QwenImageMultiControlNetModel
        """,
    ),
    **_diffusers("timestep_ratio", "unit-interval", "StableCascadeUNet"),
    **_diffusers("timestep", "reversed-timesteps", "MochiTransformer3DModel"),
    **_diffusers(
        "timestep",
        "reversed-unit-interval",
        "Ideogram4Transformer2DModel Lumina2Transformer2DModel LuminaNextDiT2DModel OmniGenTransformer2DModel",
    ),
    **_diffusers("t", "reversed-unit-interval", "ZImageControlNetModel ZImageTransformer2DModel"),
    **_diffusers("timestep", "log-sigma", "UNetSpatioTemporalConditionModel"),
    # A value function and Dance Diffusion; Cosmos 1 and 2; Sana and its distillation Sprint.
    **_diffusers("timestep", None, "UNet1DModel CosmosControlNetModel CosmosTransformer3DModel SanaTransformer2DModel"),
    **{
        f"guided_diffusion.{name}": TimestepArgument("timesteps", "timesteps")
        for name in ("UNetModel", "SuperResModel", "EncoderUNetModel")
    },
    "ldm.UNetModel": TimestepArgument("timesteps", "timesteps"),
    "models.DiT": TimestepArgument("t", "timesteps"),
    "denoising_diffusion_pytorch.Unet": TimestepArgument("time", "timesteps"),
    "library.UNet2DConditionModel": TimestepArgument("timestep", "timesteps"),
    "library.SdxlUNet2DConditionModel": TimestepArgument("timesteps", "timesteps"),
    "library.Flux": TimestepArgument("timesteps", "unit-interval"),
    "torchtitan.FluxModel": TimestepArgument("timesteps", "unit-interval"),
    "k_diffusion.ImageDenoiserModelV1": TimestepArgument("sigma", "sigma"),
    "k_diffusion.ImageTransformerDenoiserModelV1": TimestepArgument("sigma", "sigma"),
    "k_diffusion.ImageTransformerDenoiserModelV2": TimestepArgument("sigma", "sigma"),
    # ln(sigma) / 4 inside EDMPrecond, otherwise inside the preconditioners of VP, VE and iDDPM.
    "training.SongUNet": TimestepArgument("noise_labels", None),
    "training.DhariwalUNet": TimestepArgument("noise_labels", None),
    # The networks of this library, on schedules in timesteps or scaled to 0..1000; log-sigma on others.
    "etsdm.Network": TimestepArgument("time", "timesteps"),
}

# Modules around a network, and the attribute that holds it.
INNER = {
    "torch.OptimizedModule": "_orig_mod",
    "torch.DistributedDataParallel": "module",
    "torch.DataParallel": "module",
    "torch.FullyShardedDataParallel": "module",
    "torch.AveragedModel": "module",
    "torch.ActivationWrapper": "_checkpoint_wrapped_module",
    "deepspeed.DeepSpeedEngine": "module",
    "peft.PeftModel": "base_model",
    "peft.BaseTuner": "model",
}

# Modules in which a true time gives more than a condition, and what to share instead.
_PRECONDITIONED = "its sigma also gives the coefficients of the preconditioning; give the network inside, {}"
NOT_A_NETWORK = {
    "etsdm.Denoiser": "it has a condition map of its own; give condition_map to its DenoiserSpec",
    "etsdm.ExternalNetwork": "its denoiser has a condition map of its own; give condition_map to etsdm.wrap, or share before it",
    "denoising_diffusion_pytorch.GaussianDiffusion": "its t also gives the noise level; give the network inside, .model",
    "training.EDMPrecond": _PRECONDITIONED.format(".model, with unit='log-sigma'"),
    "training.VPPrecond": _PRECONDITIONED.format(".model, with unit='timesteps'"),
    "training.VEPrecond": "its sigma also gives c_out, and .model takes ln(sigma / 2), none of the units; map c_noise in its forward",
    "training.iDDPMPrecond": _PRECONDITIONED.format(".model, with unit='timesteps'"),
    "k_diffusion.Denoiser": _PRECONDITIONED.format(".inner_model"),
    "library.Chroma": "get_mod_vectors embeds its timestep outside forward, where no map acts; map the timesteps before both",
    "diffusers.UVit2DModel": "it predicts masked tokens and takes no timestep; there is nothing to share",
}


def known_name(network: nn.Module, names: Collection[str]) -> str | None:
    """The first of a network's class and its bases that is among names, as `package.Class`; None if none is."""
    classes = (f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(network).__mro__)
    return next((name for name in classes if name in names), None)


def timestep_argument(network: nn.Module) -> TimestepArgument | None:
    """The timestep argument of a network of a known class, else None."""
    name = known_name(network, TIMESTEP_ARGUMENTS)
    return None if name is None else TIMESTEP_ARGUMENTS[name]
