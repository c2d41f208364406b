"""The digits training against a hand-written loop around the same network, step by step in turns, in one process.

    python benchmarks/training.py [--steps 4] [--rounds 60]

Prints the median time of a step of each and the ratio with its spread; the aim is a hand-written loop at most 5 % faster. The
loop does what a person would write: random batch, random times, noise, forward, backward, fused Adam, moving average.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from etsdm.experiment import build
from etsdm.training import Trainer


class HandWritten:
    """The shortest loop that trains the same network on the same images."""

    def __init__(self, recipe) -> None:
        training = recipe.training
        self.batch = training.batch_size
        self.images = recipe.data.open("train").pixels
        self.network = recipe.model.build(0).backbone.train()
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(training.ema.decay))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=training.learning_rate, fused=True)
        abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
        self.alpha, self.sigma = abar.sqrt().float(), (1 - abar).sqrt().float()

    def step(self) -> None:
        x0 = self.images[torch.randint(len(self.images), (self.batch,))]
        t = torch.randint(1000, (self.batch,))
        eps = torch.randn_like(x0)
        x = self.alpha[t].view(-1, 1, 1, 1) * x0 + self.sigma[t].view(-1, 1, 1, 1) * eps
        loss = (self.network(x, t.float()) - eps).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.average.update_parameters(self.network)


def seconds_a_step(step, count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4, help="steps in one turn")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = build("digits").arm("e-tsdm").recipe
    trainer = Trainer(recipe.model, recipe.training, recipe.data.open("train"), seed=0)
    loop = HandWritten(recipe)
    for step in (trainer.step, loop.step):
        seconds_a_step(step, 3)
    pairs = []
    for k in range(options.rounds):
        # In turns and in alternating order, so that a slow moment of the machine hits both.
        order = [("ours", trainer.step), ("loop", loop.step)][:: 1 if k % 2 else -1]
        pairs.append({name: seconds_a_step(step, options.steps) for name, step in order})
    ours, theirs = (statistics.median(pair[name] for pair in pairs) for name in ("ours", "loop"))
    ratios = sorted(pair["ours"] / pair["loop"] for pair in pairs)
    print(f"etsdm trainer       {ours * 1e3:7.2f} ms a step, {recipe.training.batch_size / ours:,.0f} images/s of one core")
    print(f"hand-written loop   {theirs * 1e3:7.2f} ms a step")
    low, high = ratios[len(ratios) // 4], ratios[-len(ratios) // 4]
    print(f"ratio, paired       {statistics.median(ratios):7.3f} (quartiles {low:.3f} to {high:.3f})")
    fastest = {name: min(pair[name] for pair in pairs) for name in ("ours", "loop")}
    print(
        f"ratio, fastest      {fastest['ours'] / fastest['loop']:7.3f} ({fastest['ours'] * 1e3:.2f} ms to {fastest['loop'] * 1e3:.2f} ms)"
    )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread")


if __name__ == "__main__":
    main()
