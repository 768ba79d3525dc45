"""Many runs of recipes: a few at a time, with a log each, and nothing twice that is finished.

A run is finished when it says with which options, configs, data and code it was made, and all of
them are still the same.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from espnet_prune import __version__
from espnet_prune.files.freshness import claim, digest, named
from espnet_prune.files.reading import read_record, read_text
from espnet_prune.files.writing import write_text
from espnet_prune.launch.supervise import ended_together

#: Methods of `prune_sweep`, and what they add to the options of the recipe.
METHODS: Mapping[str, Sequence[str]] = {
    "ours": ("--method", "one_shot"),
    "heads": ("--method", "one_shot", "--prune_args", "--pruning_conf protected=[qk,vo]"),
    "masks": ("--method", "one_shot", "--prune_args", "--pruning_conf compensate=false"),
    "l0": ("--method", "l0"),
    "noste": ("--method", "l0", "--prune_args", "--pruning_conf ste=false"),
    "random": ("--method", "random"),
    "scratch": ("--method", "scratch"),
}
#: Those that learn gates in a training of their own; the others spend all updates afterwards.
GATED = ("l0", "noste")
#: File beside a result that says what it was made of.
MADE = ".made"
_TAIL_LINES = 5


def say(text: str) -> None:
    """Print a line with the time, at once."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


@dataclass
class Runner:
    """Runs commands with a log each.

    Args:
        nj: jobs at a time; each has its share of the processors.
        python: command that starts Python, also for the recipes.
        options: further options of all recipes.
    """

    nj: int = 1
    python: str = "python3"
    debug: bool = False
    options: Sequence[str] = ()

    def recipe(self, *options: object) -> list[str]:
        """The command of a recipe with options."""
        shared = ["--debug", str(self.debug).lower(), "--python", self.python]
        return ["./run.sh", *shared, *map(str, options), *self.options]

    def made_of(self, recipe: str | Path, *options: object) -> str:
        """A digest of what a run of a recipe is made of: options, scripts and configs, formatted
        data with its audio, what the data directories have beside, this package's version."""
        words = [*map(str, options), *self.options]
        places = {"--dumpdir": "dump", "--datadir": "data"}
        if self.debug:
            places["--dumpdir"] = "dump_debug"
        places |= dict(zip(words[:-1], words[1:], strict=True))
        files: list[Path] = []
        for pattern in ("*.sh", "local/*", "conf/*"):
            files += Path(recipe).glob(pattern)
        files += Path(recipe, places["--dumpdir"]).glob("raw/*/[!.]*")
        for name in ("trials", "ref", "rttm", "frame_labels"):
            files += Path(recipe, places["--datadir"]).glob(f"*/{name}")
        found = [word for path in sorted(files) if path.is_file() for word in (path.name, path)]
        return digest([*named(words), *found, __version__])

    def ours(self, *arguments: object) -> list[str]:
        """The command `espnet-prune` with arguments."""
        return [*shlex.split(self.python), "-m", "espnet_prune", *map(str, arguments)]

    def call(self, command: list[str], log: Path | None = None, cwd: str | Path = ".") -> None:
        """Run a command; its output goes to the log, if there is one.

        Raises:
            ValueError: it failed. The message has the end of the log.
        """
        threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        environment = {**os.environ, "OMP_NUM_THREADS": str(-(-threads // self.nj))}
        start = partial(subprocess.run, command, cwd=cwd, env=environment)
        if log is None:
            if start().returncode:
                raise ValueError(f"{shlex.join(command)} failed, see above")
            return
        say(f"{log.stem}: log in {log}")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            done = start(stdout=file, stderr=file)
        if done.returncode:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise ValueError("\n".join([*lines[-_TAIL_LINES:], f"{log.stem} failed, see {log}"]))

    def together(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Call the jobs, `nj` at a time. After a failure no other one starts."""
        with ThreadPoolExecutor(self.nj) as pool:
            futures = [pool.submit(job) for job in jobs]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                future.cancel()
        for future in futures:
            if not future.cancelled():
                future.result()


@ended_together()
def prune_sweep(
    *,
    expdir: Path | None,
    targets: Sequence[str],
    seeds: Sequence[int],
    methods: Sequence[str],
    updates: int | None,
    output: str,
    **running: Any,
) -> None:
    """Run a pruning recipe at several sizes with several methods, and write a table and plots.

    Arguments are the options of `encoder sweep`, with `Runner`'s. ``expdir`` gets
    ssl_prune_METHOD_TARGET[_seedN], their logs and the table. Methods without a first training
    spend all updates in the second.

    Raises:
        ValueError: unknown method, or a run that failed.
    """
    runner = Runner(**running)
    expdir = expdir or Path("exp_debug" if runner.debug else "exp")
    updates = updates or (12 if runner.debug else 600)
    for method in set(methods) - METHODS.keys():
        raise ValueError(f"unknown method '{method}', choose from {', '.join(METHODS)}")
    alone = f"--num_iters_per_epoch {updates // 2} --scheduler_conf max_steps={updates}"

    def place(method: str, target: str, seed: int) -> Path:
        return expdir / f"ssl_prune_{method}_{target}{f'_seed{seed}' if seed else ''}"

    runs = [
        (method, target, seed)
        for target in targets
        for seed in (seeds if target == "0.5" else (0,))
        for method in methods
    ]
    rounds: tuple[list, list] = ([], [])
    for method, target, seed in runs:
        exp = place(method, target, seed)
        main_job = expdir / "ssl_prune_prune_one_shot_0.5"
        if exp.name == "ssl_prune_ours_0.5" and not os.path.lexists(exp) and main_job.is_dir():
            exp.symlink_to(main_job.name)
        tag = exp.name.removeprefix("ssl_prune_")
        options = ["--stage", 4, "--stop_stage", 10, "--asr_train_set", "", "--expdir", expdir]
        options += ["--prune_tag", tag, "--target", target, "--seed", seed, *METHODS[method]]
        if method not in GATED:
            options += ["--distill_args", alone]
        if method == "scratch":  # after the one whose sizes it takes
            options += ["--like", place("ours", target, seed) / "pruned"]
        rounds[method == "scratch"].append((exp, tag, options))

    def run(exp: Path, tag: str, options: list) -> None:
        made = runner.made_of(".", *options, *sorted(expdir.glob("teacher_*")))
        if not (_scores(exp) and _is_made(exp / MADE, made)):
            runner.call(runner.recipe(*options), expdir / f"table_{tag}.log")
            write_text(exp / MADE, made + "\n")

    for jobs in rounds:
        runner.together(partial(run, *job) for job in jobs)
    if set(GATED) <= set(methods):
        for target in targets:
            plot = ["--output", expdir / f"ste_{target}.png"]
            for title, of in (("with STE", "l0"), ("without STE", "noste")):
                exp = place(of, target, seeds[0] if target == "0.5" else 0)
                plot += ["--run", title, exp / "prune"]
            runner.call(runner.ours("encoder", "compare", *plot))
    experiments = [place(*run) for run in runs]
    table: list[object] = ["--output", expdir / output, *experiments]
    for score in sorted(set.intersection(*map(_scores, experiments))):
        table += ["--score", score]
    runner.call(runner.ours("encoder", "table", *table))


def _scores(experiment: Path) -> set[str]:
    """Its scores by Whisper's own decoder, one a test set."""
    found = experiment.glob("whisper/*/scores.json")
    return {str(path.relative_to(experiment)) for path in found}


def _is_made(note: Path, made: str) -> bool:
    return note.is_file() and read_text(note).strip() == made


def _is_finished(result: Path, note: Path, made: str) -> bool:
    return result.is_file() and _is_made(note, made)


@ended_together()
def superb_sweep(
    *, stage: int, stop_stage: int, nj: int, python: str, debug: bool, options: list, **fields: Any
) -> None:
    """What `superb sweep` does: arguments are its options."""
    fields |= {name: dict(fields[name]) for name in ("encoders", "tasks")}
    SuperbSweep(Runner(nj, python, debug, options), **fields).run(stage, stop_stage)


@dataclass
class SuperbSweep:
    """Probes of several encoders on several tasks, with learning rates and seeds.

    Fields are options of `superb sweep`. ``expdir`` gets NAME/results_seedN/TASK,
    learning_rates/TASK.json, log/*.log and the table.
    """

    runner: Runner
    encoders: dict[str, str]
    tasks: dict[str, str]
    seeds: Sequence[int]
    learning_rates: Sequence[str]
    expdir: Path
    seeded: Sequence[str] = ()
    fixed: Sequence[str] = ()
    command: str = ""

    def run(self, stage: int, stop_stage: int) -> None:
        """Stages 2 data, 3 learning rates, 4 probes, 5 results.

        Raises:
            ValueError: a recipe failed, or `expdir` has results of other encoders or rates.
        """
        self.expdir = Path(os.path.abspath(self.expdir))  # recipes run in their own directories
        for name, place in self.encoders.items():
            if os.path.isdir(place):
                self.encoders[name] = os.path.abspath(place)
        self.first = next(iter(self.encoders))
        if stage <= 2 <= stop_stage:
            say("Stage 2: Data")
            options = ["--upstream", self.encoders[self.first], "--stop_stage", 2]
            self.runner.together(
                partial(self._recipe, f"data_{task}", task, *options) for task in self.tasks
            )
        if stop_stage >= 3:
            for name in self.encoders:
                claim(self.expdir / name, self._weights(name))
            if self.learning_rates:
                rates = [*self._weights(self.first), " ".join(self.learning_rates), self.seeds[0]]
                claim(self.expdir / "learning_rates", rates)
        if stage <= 3 <= stop_stage and self.learning_rates:
            say(f"Stage 3: Learning rates, chosen on the validation data of {self.first}")
            wanted = [task for task in self.tasks if task not in self.fixed]
            wanted = [task for task in wanted if not self._is_chosen(task)]
            if wanted:  # the encoder is brought once, not by all at a time
                only = ["--stage", 3, "--stop_stage", 3]
                self._probe("upstream", wanted[0], self.first, self.seeds[0], *only)
            self.runner.together(partial(self._choose, task) for task in wanted)
        if stage <= 4 <= stop_stage:
            say(f"Stage 4: Probes, {self.runner.nj} encoders at a time")
            self.runner.together(partial(self._probes, name) for name in self.encoders)
        if stage <= 5 <= stop_stage:
            say(f"Stage 5: Results: {self.expdir / 'RESULTS.md'}")
            self._table()

    def _weights(self, name: str) -> list[Path | str]:
        """What tells one encoder from another; a hub name has no files, and is a word."""
        paths = [Path(self.encoders[name]) / file for file in ("model.safetensors", "config.json")]
        return [path if path.is_file() else str(path) for path in paths]

    def _rates(self, task: str) -> Path:
        return self.expdir / "learning_rates" / f"{task}.json"

    def _chosen_of(self, task: str) -> tuple[Path, str]:
        """Where it is noted what a rate was chosen with, and what that is now."""
        note = self.expdir / "learning_rates" / f"{MADE}_{task}"
        return note, self._made_of(task)

    def _is_chosen(self, task: str) -> bool:
        return _is_finished(self._rates(task), *self._chosen_of(task))

    def _made_of(self, task: str) -> str:
        """What a probe is made of beside the encoder; not what the place of the results is."""
        options = [str(option).replace("TASK", task) for option in self.runner.options]
        return replace(self.runner, options=()).made_of(self.tasks[task], *options)

    def _rate(self, task: str) -> float | None:
        """The chosen rate; None for the config's."""
        path = self._rates(task)
        known = self.learning_rates and path.is_file()
        return read_record(path, ["chosen"])["chosen"] if known else None

    def _recipe(self, name: str, task: str, *options: object) -> None:
        log = self.expdir / "log" / f"{name}.log"
        command = [word.replace("TASK", task) for word in self.runner.recipe(*options)]
        self.runner.call(command, log, self.tasks[task])

    def _probe(self, name: str, task: str, encoder: str, seed: int, *options: object) -> None:
        """A task's recipe for an encoder; all tasks share its frames."""
        place = self.expdir / encoder
        shared = ["--upstream", self.encoders[encoder], "--seed", seed, "--expdir", place]
        shared += ["--results_dir", place / f"results_seed{seed}", "--feature_cache", "true"]
        self._recipe(name, task, *shared, "--nj", 1, "--inference_nj", 1, *options)

    def _choose(self, task: str) -> None:
        """Try the rates on the first encoder, and keep the one best on its validation data."""
        options = ["--stage", 4, "--stop_stage", 6, "--probe_tag", "sweep"]
        options += ["--learning_rates", " ".join(self.learning_rates)]
        self._probe(f"sweep_{task}", task, self.first, self.seeds[0], *options)
        trained = sorted((self.expdir / self.first).glob(f"superb_{task}_sweep_*"))
        output = ["--output", self._rates(task)]
        self.runner.call(self.runner.ours("superb", "common-rate", *trained, *output))
        note, made = self._chosen_of(task)
        write_text(note, made + "\n")
        for folder in trained:
            shutil.rmtree(folder)

    def _probes(self, name: str) -> None:
        """All tasks and seeds of an encoder; then remove what only they needed."""
        place = self.expdir / name
        for task in self.tasks:
            rate = self._rate(task)
            tag = "" if rate is None else f"_lr{rate}"
            # YAML reads 1.0e-1 as a number, but 1e-1 as text
            args = "" if rate is None else f"--optim_conf lr={rate:e}"
            for seed in self.seeds if task in self.seeded else self.seeds[:1]:
                results = place / f"results_seed{seed}" / task
                note, made = results / MADE, f"{rate} {self._made_of(task)}"
                if _is_finished(results / "run.json", note, made):
                    continue
                note.unlink(missing_ok=True)
                options = ["--stage", 3, "--probe_tag", f"seed{seed}{tag}", "--probe_args", args]
                self._probe(f"{name}_{task}_seed{seed}", task, name, seed, *options)
                write_text(note, made + "\n")
        shutil.rmtree(place / "feature_cache", ignore_errors=True)
        for checkpoint in place.rglob("checkpoint.pth"):
            checkpoint.unlink()

    def _table(self) -> None:
        options: list[object] = []
        for name in self.encoders:
            folders = [self.expdir / name / f"results_seed{seed}" for seed in self.seeds]
            options += ["--encoder", name, *folders]
        chosen = [(task, self._rate(task)) for task in self.tasks]
        rates = ", ".join(f"{task} {rate}" for task, rate in chosen if rate is not None)
        if rates:
            among = f"{self.first} among {' '.join(self.learning_rates)}"
            options += ["--note", f"Chosen on validation data of {among}: {rates}."]
        options += ["--command", self.command, "--output_dir", self.expdir]
        self.runner.call(self.runner.ours("superb", "table", *options, "--tasks", *self.tasks))
