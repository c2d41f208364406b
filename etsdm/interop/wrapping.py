"""`etsdm.wrap`: a denoiser from a network, a callable or a pipeline of another library.

    etsdm.wrap(unet, schedule="linear", target="eps", condition_map={"type": "e-tsdm", "t_tilde": 100, "n": 5})
    etsdm.wrap(pipeline)
    etsdm.wrap("folder or Hub id of a pipeline of diffusers")

The network itself is wrapped, not a copy; see `etsdm.backbones.External`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from etsdm.backbones import External
from etsdm.backbones.first_stages import FirstStageNetwork
from etsdm.backbones.signature import Signature
from etsdm.condition_maps import ConditionMap
from etsdm.condition_maps.time_inputs import TimeInput
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.errors import PartError
from etsdm.interop.adapters import NetworkFacts, read_network, unwrapped
from etsdm.interop.autoencoders import first_stage_of
from etsdm.interop.diffusers_schedules import SchedulerParts, read_scheduler
from etsdm.interop.network_map import check_applied_once, stored_condition_map
from etsdm.interop.pipelines import PipelineParts, is_pipeline, parts_of_pipeline, read_pipeline
from etsdm.registry import format_errors, schedules
from etsdm.schedules import Schedule
from etsdm.targets import Target

__all__ = ["wrap"]

MAX_IMAGE_CHANNELS = 3  # more are taken for those of latents


def wrap(
    model: Callable[..., Any] | str | Path,
    *,
    schedule: Any | None = None,
    target: Target | str | Mapping[str, Any] | None = None,
    condition_map: ConditionMap | str | Mapping[str, Any] | None = None,
    time_input: TimeInput | str | Mapping[str, Any] | None = None,
    signature: str | Signature | None = None,
    shape: tuple[int, int, int] | None = None,
    out_channels: int | None = None,
    num_classes: int | None = None,
    label_argument: str | None = None,
    conditions: Mapping[str, Tensor] | None = None,
    first_stage: Any | None = None,
    bounded: bool | None = None,
) -> Denoiser:
    """Makes a denoiser of another library's network or pipeline.

    Args:
        model: an `nn.Module` or another callable, possibly inside torch.compile or DistributedDataParallel; a pipeline of diffusers; or the
            folder or Hub id of one, whose weights are read from safetensors alone.
        schedule: the noise schedule, or a scheduler of diffusers that has it; of a pipeline, that of its scheduler by default.
        target: the prediction target; likewise.
        condition_map: f, from time to condition; by default that of the network's or scheduler's configuration, if there is one.
        time_input: from the condition to the network's time; the one that suits schedule and signature by default.
        signature: how the network is called, one of `etsdm.interop.adapters.SIGNATURES` or a `Signature`; by default chosen by its class.
        shape: (C, H, W) of its input; by default from its configuration.
        out_channels: channels of its output, 2 C with a learned variance; likewise, and C without one.
        num_classes: number of class labels, the null class included; likewise, and None for an unconditional network without one.
        label_argument: name of the argument for class labels.
        conditions: fixed conditions by name, such as `encoder_hidden_states`: tensors with one row for all images, or one for each.
        first_stage: autoencoder of the latents, an `AutoencoderKL` or a `VQModel` of diffusers; that of a pipeline by default.
        bounded: whether clean x lie in [-1, 1]; by default for up to three channels, more being taken for latents.

    Returns:
        The denoiser, on the network's device and in its mode, training or eval; a plain callable's in eval mode.

    Raises:
        PartError: something is missing or does not fit; the field is the argument to give.
        CheckpointError: the folder or Hub id holds no known pipeline in safetensors files.
    """
    parts = _parts(model)
    if _is_scheduler(schedule):
        parts, schedule = parts._replace(scheduler=schedule), None
    network = parts.network
    facts = read_network(network, signature)
    given = None if parts.scheduler is None or (schedule is not None and target is not None) else read_scheduler(parts.scheduler)
    try:
        fields = _spec_fields(facts, given, {"schedule": schedule, "target": target, "time_input": time_input}, network)
        fields["condition_map"] = _condition_map(condition_map, parts, fields["schedule"])
        external = _external(facts, network, shape, out_channels, num_classes, label_argument, conditions, bounded)
        stage = _first_stage(parts.autoencoder if first_stage is None else first_stage, external)
        spec = DenoiserSpec(backbone=external, first_stage=None if stage is None else stage.spec, **fields)
    except ValidationError as error:
        problem = format_errors(error)[0]
        location = problem.location[1:] if problem.location[:1] == ("backbone",) and len(problem.location) > 1 else problem.location
        raise PartError(location, problem.message) from None
    check_applied_once(network, spec)
    return _built(spec, stage, network)


def _parts(model: Any) -> PipelineParts:
    if isinstance(model, (str, Path)):
        return read_pipeline(model)
    if is_pipeline(model):
        return parts_of_pipeline(model)
    if isinstance(model, type) or not callable(model):
        found = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise PartError("model", f"found {found}; give a network, another callable f(x, t), a pipeline of diffusers, or its folder")
    if isinstance(model, Denoiser):
        raise PartError("model", "found a Denoiser already; use it as it is, or give the network inside, .backbone")
    return PipelineParts(model)


def _is_scheduler(schedule: Any) -> bool:
    return any(kind.__name__ == "SchedulerMixin" and kind.__module__.startswith("diffusers.") for kind in type(schedule).__mro__)


def _spec_fields(facts: NetworkFacts, scheduler: SchedulerParts | None, given: dict[str, Any], network: Any) -> dict[str, Any]:
    """Schedule, target and time input: as given, fixed by the signature, or those of the scheduler."""
    fields: dict[str, Any] = {}
    for name, example in (("schedule", "'linear'"), ("target", "'eps' or 'v'")):
        found = given[name]
        if found is None:
            found = getattr(facts, name) or getattr(scheduler, name, None)
        if found is None:
            message = (
                f"is missing, and {type(unwrapped(network)).__name__} does not hold it; give the one of its training, such as {example}"
            )
            raise PartError(name, message)
        fields[name] = found
    if scheduler is not None and given["time_input"] is None and given["schedule"] is None:
        fields["time_input"] = scheduler.time_input
    else:
        fields["time_input"] = facts.time_input if given["time_input"] is None else given["time_input"]
    fields["schedule"] = schedules.make(fields["schedule"])
    if facts.target is not None:
        _check_returns_x0(facts, fields)
    return fields


def _check_returns_x0(facts: NetworkFacts, fields: dict[str, Any]) -> None:
    schedule: Schedule = fields["schedule"]
    if not schedule.time_is_noise_level:
        message = f"{schedule.type_name!r} has no noise level for its time, and the network takes x0 + sigma eps and sigma"
        raise PartError("schedule", f"{message}; leave it out, or give 'edm'")
    if fields["target"] not in (facts.target, "x0", {"type": "x0"}):
        raise PartError("target", "the network returns x0; leave it out, or give the network inside with its own signature")


def _condition_map(given: Any, parts: PipelineParts, schedule: Schedule) -> Any:
    """The given map, else that of the network or of its scheduler."""
    if given is not None:
        return given
    stored = stored_condition_map(parts.network, schedule) or stored_condition_map(parts.scheduler, schedule)
    return "identity" if stored is None else stored


def _external(
    facts: NetworkFacts,
    network: Any,
    shape: tuple[int, int, int] | None,
    out_channels: int | None,
    num_classes: int | None,
    label_argument: str | None,
    conditions: Mapping[str, Tensor] | None,
    bounded: bool | None,
) -> External:
    name = type(unwrapped(network)).__name__
    size = facts.shape if shape is None else shape
    if size is None:
        raise PartError("shape", f"is missing, and {name} does not hold it; give shape=(channels, height, width) of its input")
    classes = facts.num_classes if num_classes is None else num_classes
    labels = facts.label_argument if label_argument is None else label_argument
    if classes is None and facts.labels_required and labels not in (conditions or {}):
        raise PartError("num_classes", f"is missing, and {name} requires {labels!r}; give num_classes=, the null class included")
    fixed = {key: _on_device(value, network) for key, value in (conditions or {}).items()}
    return External(
        network,
        size,
        out_channels=facts.out_channels if out_channels is None else out_channels,
        num_classes=classes,
        label_argument=labels,
        signature=facts.signature,
        conditions=fixed,
        bounded=size[0] <= MAX_IMAGE_CHANNELS if bounded is None else bounded,
    )


def _on_device(value: Any, network: Any) -> Any:
    """A condition on the network's device."""
    weight = _first_weight(network)
    return value.detach().to(weight.device) if isinstance(value, Tensor) and weight is not None else value


def _first_weight(network: Any) -> Tensor | None:
    return next(chain(network.parameters(), network.buffers()), None) if isinstance(network, nn.Module) else None


def _first_stage(autoencoder: Any | None, backbone: External) -> FirstStageNetwork | None:
    if autoencoder is None or isinstance(autoencoder, FirstStageNetwork):
        return autoencoder
    return first_stage_of(autoencoder, backbone.image_size)


def _built(spec: DenoiserSpec, first_stage: FirstStageNetwork | None, network: Any) -> Denoiser:
    if first_stage is not None and (weight := _first_weight(network)) is not None:
        first_stage = first_stage.to(weight.device)
    denoiser = Denoiser(spec, spec.backbone.build(), first_stage)
    # The flags of the two modules around the network, whose own, and those of its layers, stay as they are.
    mode = isinstance(network, nn.Module) and network.training
    denoiser.training = denoiser.backbone.training = mode
    return denoiser
