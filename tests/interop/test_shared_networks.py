"""The map stays with a network: compiled, exported, in DDP, copied, pickled, in a state dict and through `save_pretrained`."""

import copy
import io
import json
import pickle
import re

import pytest
import torch
import torch.multiprocessing as mp
from networks import Net, unet
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from etsdm.condition_maps import ETSDM
from etsdm.errors import CheckpointError, PartError
from etsdm.interop import share_timesteps, timestep_sharing

X = torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8)
T, MAPPED = torch.tensor([0, 19, 39, 999]), torch.tensor([0, 0, 20, 999])
NET = {"argument": "t", "unit": "timesteps"}


def shared(**options):
    net = Net()
    share_timesteps(net, **{**NET, **options})
    return net


def test_a_deep_copy_is_shared_and_computes_with_its_own_weights():
    net = shared()
    ema = copy.deepcopy(net)
    with torch.no_grad():
        ema.weight.mul_(2)
    assert torch.equal(ema(X, T), Net(0.002)(X, MAPPED))
    assert torch.equal(net(X, T), Net()(X, MAPPED))
    timestep_sharing(ema).remove()
    assert type(ema) is Net
    assert torch.equal(net(X, T), Net()(X, MAPPED))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "deepcopy", "pickle"]
)
def test_a_copy_has_the_class_of_the_original(copied):
    net = shared()
    found = copied(net)
    assert type(found) is type(net)
    assert isinstance(found, Net)
    assert torch.equal(found(X, T), net(X, T))
    assert timestep_sharing(found).timestep_map == timestep_sharing(net).timestep_map


def test_torch_save_keeps_the_map():
    file = io.BytesIO()
    torch.save(shared(), file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(X, T), Net()(X, MAPPED))


def test_the_state_dict_is_that_of_the_network():
    net = shared()
    assert list(net.state_dict()) == list(Net().state_dict())
    other = Net(3.0)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(X, T), Net()(X, T))
    net.load_state_dict(Net(0.002).state_dict())
    assert torch.equal(net(X, T), Net(0.002)(X, MAPPED))
    assert [id(weight) for weight in net.parameters()] == [id(net.weight)]


def test_gradients_are_those_at_mapped_timesteps():
    net, by_hand = shared(), Net()
    net(X, T).square().sum().backward()
    by_hand(X, MAPPED).square().sum().backward()
    assert torch.equal(net.weight.grad, by_hand.weight.grad)


@pytest.mark.parametrize("t", [T, T.float(), torch.tensor(39), 39, 39.5], ids=["int64", "float32", "0-dim", "int", "float"])
@pytest.mark.parametrize("unit", ["timesteps", "reversed-unit-interval"])
def test_compiled_without_a_graph_break(t, unit):
    torch.compiler.reset()
    net = shared(unit=unit)
    t = t if unit == "timesteps" else 1 - t / 1000
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert torch.equal(compiled(X, t), net(X, t))


def test_a_compiled_module_is_shared_and_taken_off_after_it_ran():
    torch.compiler.reset()
    net = Net()
    compiled = torch.compile(net, backend="eager")
    assert torch.equal(compiled(X, T), Net()(X, T))
    sharing = share_timesteps(compiled, **NET)
    assert torch.equal(compiled(X, T), Net()(X, MAPPED))
    assert timestep_sharing(compiled).network is net
    sharing.remove()
    assert torch.equal(compiled(X, T), Net()(X, T))


def test_compiled_in_place():
    torch.compiler.reset()
    net = shared()
    net.compile(backend="eager")
    assert torch.equal(net(X, T), Net()(X, MAPPED))


def test_exported_programs_hold_the_map():
    program = torch.export.export(shared(), (X, T))
    assert torch.equal(program.module()(X, T), Net()(X, MAPPED))
    assert torch.equal(program.module()(X, torch.tensor([99, 100, 5, 61])), Net()(X, torch.tensor([80, 100, 0, 60])))


def train_in_ddp(rank, world_size, file, results):
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world_size)
    try:
        net = Net()
        ddp = nn.parallel.DistributedDataParallel(net)
        share_timesteps(ddp, **NET)
        half = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
        ddp(X[half], T[half]).square().mean().backward()
        results[rank] = net.weight.grad.item()
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("world_size", [1, 2])
def test_ddp_trains_on_mapped_timesteps(tmp_path, world_size):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.start_processes(train_in_ddp, (world_size, tmp_path / "rendezvous", results), nprocs=world_size, start_method="fork")
        found = [results[rank] for rank in range(world_size)]
    by_hand = Net()
    by_hand(X, MAPPED).square().mean().backward()
    assert found == pytest.approx([by_hand.weight.grad.item()] * world_size)


class Sharded(Net):
    """`Net` with a weight that FSDP can shard."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.001]))


def shard_and_share(rank, file, results):
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for when in ("before", "after"):
            net = Sharded()
            if when == "before":
                sharing = share_timesteps(net, **NET)
            fully_shard(net, mesh=mesh)
            if when == "after":
                sharing = share_timesteps(net, **NET)
            mapped = torch.equal(net(X, T), Net()(X, MAPPED)) and timestep_sharing(net) is not None
            sharing.remove()
            results[when] = mapped and torch.equal(net(X, T), Net()(X, T)) and isinstance(net, FSDPModule)
    finally:
        distributed.destroy_process_group()


def test_fsdp2_shards_a_shared_network_and_a_sharded_one_is_shared(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.start_processes(shard_and_share, (tmp_path / "rendezvous", results), nprocs=1, start_method="fork")
        assert dict(results) == {"before": True, "after": True}


def test_modules_around_a_network_are_looked_through():
    net = Net()
    wrapper = type("PeftModel", (nn.Module,), {"__module__": "peft.peft_model"})()
    tuner = type("LoraModel", (type("BaseTuner", (nn.Module,), {"__module__": "peft.tuners"}),), {"__module__": "peft.tuners"})()
    wrapper.base_model, tuner.model = tuner, net
    assert share_timesteps(wrapper, **NET).network is net
    with pytest.raises(PartError, match="shared already"):
        share_timesteps(nn.DataParallel(net), **NET)


def test_averaged_and_checkpointed_networks_are_looked_through():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.optim.swa_utils import AveragedModel

    for around in (AveragedModel, checkpoint_wrapper):
        for first in (True, False):
            net = Net()
            module = around(shared()) if first else around(net)
            if not first:
                share_timesteps(module, **NET)
            assert torch.equal(module(X, T), Net()(X, MAPPED))
            assert timestep_sharing(module) is not None


def test_save_pretrained_and_from_pretrained_keep_the_map_in_the_config(tmp_path):
    model = unet()
    with torch.no_grad():
        expected, before = model(X, MAPPED).sample, model(X, T).sample
    sharing = share_timesteps(model, t_tilde=100, n=5)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["_class_name"] == "UNet2DModel"
    assert config["condition_map"] == {"type": "e-tsdm", "t_tilde": 100.0, "n": 5, "share": "condition"}

    loaded = type(unet()).from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"UNet2DModel.*'e-tsdm'.*true timesteps.*share_timesteps\(model\)"):
        timestep_sharing(loaded)
    with pytest.raises(CheckpointError, match=r"t_tilde=100.*t_tilde=50.*leave out"):
        share_timesteps(loaded, t_tilde=50)
    share_timesteps(loaded)
    with torch.no_grad():
        assert torch.equal(loaded(X, T).sample, expected)
        sharing.remove()
        assert torch.equal(model(X, T).sample, before)
    assert "condition_map" not in model.config


def test_a_map_and_an_argument_that_are_not_the_defaults_come_back(tmp_path):
    model = unet()
    share_timesteps(model, 0.5, 1, unit="unit-interval", horizon=2)
    model.save_pretrained(tmp_path)
    loaded = share_timesteps(type(unet()).from_pretrained(tmp_path)).timestep_map
    assert (loaded.condition_map, loaded.unit, loaded.horizon) == (ETSDM(t_tilde=0.5, n=1), "unit-interval", 2.0)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("condition_map", "e-tsdm", "condition_map is a str"),
        ("condition_map", {"type": "e-tsmd"}, "e-tsdm"),
        ("condition_map", {"type": "e-tsdm", "n": -1}, "n"),
        ("timestep_argument", "t", "timestep_argument"),
        ("timestep_argument", {"unit": ["timesteps"]}, "timestep_argument"),
        ("timestep_argument", {"horizon": "1000"}, "timestep_argument"),
    ],
)
def test_a_damaged_config_is_named(key, value, message):
    model = unet()
    model.register_to_config(**{"condition_map": {"type": "e-tsdm"}, key: value})
    with pytest.raises(CheckpointError, match=f"config of UNet2DModel.*{re.escape(message)}"):
        share_timesteps(model)
