"""Golden digests: what small runs give, to the last bit, so that a refactoring can show that it changes no number.

    python tests/golden/digests.py            prints what this etsdm gives, as JSON
    python tests/golden/digests.py --renew    and writes it to tests/golden/torch-<minor version>.json

Renew the file in a commit that means to change numbers and says so, and in no other. The digests hold for one minor version of torch
on one kind of processor. Kernels are restricted to those that every x86-64 processor has and sums to one thread, so that they do not
depend on the machine beyond that; values that a linear-algebra library has touched are compared to nine digits.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
RECIPES = HERE.parent / "recipes"
# Read by torch, MKL and oneDNN when they are loaded.
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    "OMP_NUM_THREADS": "1",
}
# Steps by sampler, where four are not what it takes.
STEPS = {"dpm-solver-singlestep": 5, "dpm-solver-3": 5, "dpm-solver++-3s": 5}


def recorded_file(torch_version):
    """Where the digests of a torch version are kept."""
    return HERE / f"torch-{'.'.join(torch_version.split('.')[:2])}-{platform.machine()}.json"


def fresh():
    """The digests as a process of its own computes them, under the restricted kernels."""
    found = subprocess.run([sys.executable, __file__], env={**os.environ, **PORTABLE}, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(found.stderr)
    return json.loads(found.stdout)


def digest(tensor):
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


def weights(denoiser):
    return hashlib.sha256("".join(f"{key} {digest(value)}\n" for key, value in sorted(denoiser.state_dict().items())).encode()).hexdigest()


def nine_digits(value):
    return float(f"{value:.9g}")


def values(outcome):
    """The numbers of a metric by name, and a digest of each curve."""
    curves = {
        name: hashlib.sha256(str([nine_digits(y) for y in curve.mean]).encode()).hexdigest()[:16] for name, curve in outcome.curves.items()
    }
    shares = {name: [nine_digits(share) for share in histogram.shares] for name, histogram in outcome.histograms.items()}
    return {**{name: nine_digits(value.value) for name, value in outcome.values.items()}, **curves, **shares}


def compute(out):
    """The digests of three small runs, and of every sampler on the first of them."""
    import torch
    from safetensors.torch import save_file

    import etsdm
    from etsdm.registry import samplers

    torch.set_num_threads(1)
    found = {}
    for name in ("golden", "latent", "super_resolution"):
        experiment = etsdm.build(RECIPES / f"{name}.yaml", "compute.jobs=1", out=out)
        if experiment.recipe.model.first_stage is not None:
            file = Path(out) / "first-stage.safetensors"
            save_file(experiment.denoiser.first_stage.state_dict(), file)
            experiment = etsdm.build(RECIPES / f"{name}.yaml", f"training.first_stage_weights={file}", "compute.jobs=1", out=out)
        outcomes = experiment.evaluate()
        for run in experiment.runs:
            denoiser = etsdm.load(run.folder.path)
            key = f"{name}/{run.arm}"
            found[f"{key} weights"] = weights(denoiser)
            found[f"{key} samples"] = digest(run.samples.batch(range(len(run.samples))).pixels)
            found[f"{key} metrics"] = {metric: values(outcome) for metric, outcome in outcomes[run.label].items()}
    denoiser = etsdm.load(Path(out) / "golden" / "e-tsdm")
    labels = torch.tensor([3, 1, 4])
    for name in samplers.names():
        steps = STEPS.get(name, 4)
        found[f"sampler {name}"] = digest(etsdm.sample(denoiser, 3, sampler=name, steps=steps, seed=5, batch_size=2, y=labels))
        clipped = samplers.create(name, steps=steps, clip_x0=True)
        found[f"sampler {name}, clipped"] = digest(etsdm.sample(denoiser, 3, sampler=clipped, seed=5, batch_size=2, y=labels))
    return {"torch": torch.__version__.split("+")[0], "digests": found}


if __name__ == "__main__":
    if "--renew" in sys.argv:
        result = fresh()
        recorded_file(result["torch"]).write_text(json.dumps(result, indent=1) + "\n")
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(compute(folder), indent=1))
