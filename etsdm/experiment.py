"""`etsdm.build` and `Experiment`: one or more arms, each with one or more seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from etsdm.runs import STAGES, Run
from etsdm.runs.folder import TRAININGS, ExperimentFolder
from etsdm.runs.launch import Event, execute
from etsdm.runs.records import ExperimentRecord
from etsdm.runs.sample import Sample
from etsdm.sampling import sample
from etsdm.storage.faults import storage_errors
from etsdm.storage.files import digest_of, sha256_of

__all__ = ["Experiment", "build"]

REPORT_FORMAT = 2  # raise it when the report shows something else from the same runs


class Experiment:
    """Arms that are compared, each a recipe, and the folder where their runs are.

    Args:
        arms: result of `etsdm.recipe.load_arms`.
        out: folder of all experiments.
        arm: restrict to this arm, None for all.

    Raises:
        RecipeError: there is no such arm, or an arm has the name of another folder of the experiment.
    """

    def __init__(self, arms: Arms, out: Path | str = "runs", arm: str | None = None) -> None:
        if TRAININGS in arms.recipes:
            raise RecipeError(f"arms: {TRAININGS!r} is the folder of the trainings; give the arm another name")
        if arm is not None and arm not in arms.recipes:
            name = arms.recipes[arms.as_written].name
            raise RecipeError(f"unknown arm {arm!r} of recipe {name!r}; {suggestion(arm, arms.recipes, 'it has')}")
        self._all = arms
        self.out = Path(out)
        self.arms = arms.recipes if arm is None else {arm: arms.recipes[arm]}
        self.recipe = arms.recipes[arm or arms.as_written]
        self.name = self.recipe.name
        self.folder = ExperimentFolder(self.out / self.name)

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, arms {', '.join(self.arms)}, in {str(self.folder.path)!r})"

    @cached_property
    @storage_errors()
    def runs(self) -> list[Run]:
        """Every arm with every seed, arms in the recipe's order. Raises: IntegrityError for a folder of an earlier layout."""
        self.folder.record()
        return [Run(arm, recipe, seed, self.folder) for arm, recipe in self.arms.items() for seed in self.recipe.seeds]

    def arm(self, name: str) -> Experiment:
        """The experiment with one arm only, in the same folder. Raises: RecipeError if there is no such arm."""
        return Experiment(self._all, self.out, name)

    @property
    def fingerprint(self) -> str:
        """sha256 of the arms' fingerprints."""
        return digest_of({arm: fingerprint(recipe) for arm, recipe in self.arms.items()})

    @property
    @storage_errors()
    def denoiser(self) -> Denoiser:
        """The denoiser of `recipe` and its first seed, in eval mode; untrained before training. Read from disk at each access."""
        return next(run for run in self.runs if run.recipe is self.recipe).load_denoiser()

    def train(self) -> None:
        """Trains every run that is not trained yet."""
        self._exhaust(("train",))

    def sample(self, n: int = 16, *, seed: int = 0, sampling: str | None = None, **options: Any) -> Tensor:
        """Draws images from the denoiser of `recipe` and its first seed.

        Args:
            n: number of images.
            seed: of the noise.
            sampling: name of the recipe's sampling section whose weights, guidance, sampler, labels and low-resolution images are used;
                the first by default.
            **options: those of `etsdm.sample`, in place of the section's.
        """
        section, run = self.recipe.sampling_of(sampling), next(run for run in self.runs if run.recipe is self.recipe)
        stage = next(stage for stage in run.stages() if isinstance(stage, Sample) and stage.sampling is section)
        denoiser = section.guided(run.load_denoiser(section.weights))
        first = options.get("first", 0)
        drawn = {"sampler": section.sampler, **stage.conditions(range(first, first + n))}
        return sample(denoiser, n, seed=seed, **{**drawn, **options})

    def evaluate(self) -> dict[str, dict[str, MetricResult]]:
        """Measures every run, after training and sampling. Returns: results by run label and metric, as `Run.results`."""
        self._exhaust(STAGES)
        return {run.label: run.results for run in self.runs}

    def run(self) -> Path:
        """All stages of all runs, and the report. Returns: the report's path."""
        self._exhaust(STAGES)
        return self.report()

    def execute(self, kinds: tuple[str, ...] = STAGES, jobs: int | None = None) -> Iterator[Event]:
        """Runs the unfinished stages of all runs and yields events.

        Args:
            kinds: of stages; all before the last of them are run as well.
            jobs: runs side by side, each in a process, as many as the recipe's `compute.jobs` by default, else one after another in this
                process. A script that asks for several needs `if __name__ == "__main__":`, as for all of multiprocessing.

        Raises:
            EtsdmError: something that a run needs is missing, a run failed, or another process writes the folder.
        """
        with storage_errors():
            for run in self.runs:
                run.check(kinds)
            with self.folder.locked():
                self.prepare()
                yield from execute(self.runs, kinds, jobs or self.recipe.compute.jobs or 1)

    @storage_errors()
    def report(self) -> Path:
        """Writes the report of what is in the folder, unless it is current. Returns: its path."""
        if not self.report_is_current():
            write_report(self.folder)
            shown = {"report": self._report_digest(), "report_sha256": sha256_of(self.folder.report_file)}
            self.folder.write_record(self._record().model_copy(update=shown))
        return self.folder.report_file

    @storage_errors()
    def report_is_current(self) -> bool:
        """Whether the report shows the results of these runs."""
        record, file = self.folder.record(), self.folder.report_file
        if record is None or record.report != self._report_digest() or not file.is_file():
            return False
        return sha256_of(file) == record.report_sha256

    @storage_errors()
    def prepare(self) -> None:
        """Records the recipe's arms and seeds in the folder, from which alone the report is made."""
        before, record = self.folder.record(), self._record()
        if before != record:
            self.folder.write_record(record)

    def _record(self) -> ExperimentRecord:
        """The record of the recipe's arms and seeds, with the report of before."""
        before = self.folder.record()
        return ExperimentRecord(
            name=self.name,
            description=self.recipe.description,
            arms=list(self._all.recipes),
            seeds=list(self.recipe.seeds),
            report=before.report if before else None,
            report_sha256=before.report_sha256 if before else None,
        )

    def _exhaust(self, kinds: tuple[str, ...]) -> None:
        for _ in self.execute(kinds):
            pass

    def _report_digest(self) -> str:
        found = []
        for arm, runs in self.folder.runs().items():
            for seed, run in runs.items():
                if manifest := run.manifest():
                    files = [run.path / value.file for value in manifest.values]
                    found.append([arm, seed, manifest.model_dump(mode="json"), [sha256_of(file) for file in files if file.exists()]])
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
