"""`etsdm.build` and what it gives: an experiment, which is one or more arms, each with one or more seeds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import RecipeError
from etsdm.metrics import MetricResult
from etsdm.recipe import Arms, Recipe, fingerprint, load_arms
from etsdm.registry import suggestion
from etsdm.report import write_report
from etsdm.runs.folder import ExperimentFolder, StageRecord
from etsdm.runs.run import STAGES, Run
from etsdm.sampling import sample
from etsdm.storage.files import digest_of, read_record, sha256_of, write_record

__all__ = ["Experiment", "build"]

REPORT_FORMAT = 1  # raise it when the report shows something else from the same runs


class Experiment:
    """Arms that are compared, each a recipe, and the folder where they live.

    Args:
        recipe_arms: what `etsdm.recipe.load_arms` gives.
        out: folder of all experiments.
        only: the one arm that is spoken of, None for all.
    """

    def __init__(self, recipe_arms: Arms, out: Path | str = "runs", only: str | None = None) -> None:
        self._all = recipe_arms
        self.out = Path(out)
        self.arms = recipe_arms.recipes if only is None else {only: recipe_arms.recipes[only]}
        self.recipe = recipe_arms.recipes[only or recipe_arms.as_written]
        self.name = self.recipe.name
        self.folder = ExperimentFolder(self.out / self.name)

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, arms {', '.join(self.arms)}, in {str(self.folder.path)!r})"

    @cached_property
    def runs(self) -> list[Run]:
        """Every arm with every seed, arms in the recipe's order."""
        seeds = self.recipe.seeds
        return [Run(arm, recipe, seed, self.folder.run(arm, seed, seeds[0])) for arm, recipe in self.arms.items() for seed in seeds]

    def arm(self, name: str) -> Experiment:
        """The experiment with one arm only, in the same folder. Raises: RecipeError if there is no such arm."""
        if name not in self._all.recipes:
            raise RecipeError(f"unknown arm {name!r} of recipe {self.name!r}; {suggestion(name, self._all.recipes, 'it has')}")
        return Experiment(self._all, self.out, name)

    @property
    def fingerprint(self) -> str:
        """sha256 of the arms' fingerprints."""
        return digest_of({arm: fingerprint(recipe) for arm, recipe in self.arms.items()})

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser of `recipe` and its first seed, in eval mode; untrained before training."""
        return next(run for run in self.runs if run.recipe is self.recipe).denoiser

    def train(self) -> None:
        """Trains every run that is not trained yet, one after another."""
        self._carry_out(("train",))

    def sample(self, n: int = 16, *, seed: int = 0, **options: Any) -> Tensor:
        """Draws images from `denoiser` with the recipe's sampler; the options are those of `etsdm.sample`."""
        return sample(self.denoiser, n, seed=seed, **{"sampler": self.recipe.sampling.sampler, **options})

    def evaluate(self) -> dict[str, dict[str, MetricResult]]:
        """Measures every run, after whatever has to come before. Returns: outcomes by run label and metric."""
        self._carry_out(("train", "sample", "evaluate"))
        return {run.label: run.outcomes for run in self.runs}

    def run(self) -> Path:
        """All stages of all runs, one run after another, and the report. Returns: the report's path."""
        self._carry_out(STAGES)
        return self.report()

    def report(self) -> Path:
        """Writes the report of what is in the folder, unless it is there already. Returns: its path."""
        if not self.report_is_current():
            write_report(self.folder)
            record = {**read_record(self.folder.record_file), "report": StageRecord(self._report_digest(), 0.0, {})._asdict()}
            write_record(self.folder.record_file, record)
        return self.folder.report_file

    def report_is_current(self) -> bool:
        """Whether the report shows what the evaluations of these runs found."""
        record = read_record(self.folder.record_file).get("report")
        return bool(record and record["digest"] == self._report_digest() and self.folder.report_file.exists())

    def prepare(self) -> None:
        """Records the recipe's arms and seeds in the folder, so that a report can be made from it alone."""
        before = read_record(self.folder.record_file)
        facts = {
            "name": self.name,
            "description": self.recipe.description,
            "arms": list(self._all.recipes),
            "seeds": list(self.recipe.seeds),
        }
        if before != {**before, **facts}:
            write_record(self.folder.record_file, {**before, **facts})

    def _carry_out(self, stages: tuple[str, ...]) -> None:
        for run in self.runs:
            run.check(stages)
        with self.folder.locked():
            self.prepare()
            for run in self.runs:
                for _ in run.carry_out(stages):
                    pass

    def _report_digest(self) -> str:
        files = {arm: {seed: run.evaluation_file for seed, run in runs.items()} for arm, runs in self.folder.runs().items()}
        found = {arm: {seed: sha256_of(file) for seed, file in of_arm.items() if file.exists()} for arm, of_arm in files.items()}
        return digest_of([REPORT_FORMAT, self.name, self.recipe.description, found])


def build(source: str | Path | Mapping[str, Any] | Recipe, *overrides: str, out: Path | str = "runs") -> Experiment:
    """Makes an experiment of a recipe.

    Args:
        source: a path, the name of a recipe that comes with etsdm, a mapping, or a `Recipe`.
        *overrides: changes such as `training.images=20000`, with YAML values.
        out: folder of all experiments.

    Returns:
        The experiment; nothing has run yet.

    Raises:
        RecipeError: the recipe cannot be read, or does not fit together.
    """
    return Experiment(load_arms(source, *overrides), out)
