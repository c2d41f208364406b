"""Files of other programs, with what a hostile one puts into them, and small networks to convert."""

import io
import os
import pickle
import zipfile

import torch
from torch import nn

from etsdm.randomness import seeded_global_rng
from etsdm.schedules import Cosine


class Payload:
    """An object whose unpickling makes a file; tests check that it never does."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def filled(network, seed=0):
    """The network with noise in every weight, as a trained one, in evaluation mode."""
    with seeded_global_rng(seed, "test/weights"), torch.no_grad():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def rezipped(path, out, change):
    """Copies a torch file with some entries changed: `change(name, content)` gives the new content, None to leave one out."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            content = change(entry.filename, source.read(entry))
            if content is not None:
                target.writestr(entry.filename, content)
    return out


def legacy_bytes(value):
    """The bytes of a torch file of before 1.6."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def payload_pickle(marker):
    return pickle.dumps({"weight": Payload(marker)})


class LucidrainsUnet(nn.Module):
    """A network of denoising-diffusion-pytorch, with the first and the last layer of theirs, and their signature."""

    def __init__(self, channels=1, out=1):
        super().__init__()
        self.init_conv = nn.Conv2d(channels, 4, 7, padding=3)
        self.time_mlp = nn.Linear(1, 4)
        self.final_conv = nn.Conv2d(4, out, 1)

    def forward(self, x, time, x_self_cond=None):
        return self.final_conv(self.init_conv(x) + self.time_mlp(time[:, None] / 1000)[:, :, None, None])


def lucidrains_file(averaged, current):
    """What the `Trainer.save` of denoising-diffusion-pytorch writes."""
    tables = {"betas": Cosine().betas.float(), "alphas_cumprod": Cosine().alpha_bar(torch.arange(1000)).float()}
    tables["loss_weight"] = torch.ones(1000)

    def diffusion(network):
        return {f"model.{key}": value for key, value in network.state_dict().items()} | tables

    ema = {f"ema_model.{key}": value for key, value in diffusion(averaged).items()}
    ema |= {f"online_model.{key}": value for key, value in diffusion(current).items()}
    ema |= {"initted": torch.tensor([True]), "step": torch.tensor([5])}
    return {"step": 5, "model": diffusion(current), "opt": {"state": {}}, "ema": ema, "scaler": None, "version": "2.1.1"}
