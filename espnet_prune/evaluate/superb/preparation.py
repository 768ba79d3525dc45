"""What the recipes of SUPERB's tasks share: labels, lengths, and the choice of a learning rate.

python -m espnet_prune.evaluate.superb.preparation labels|cacheable|lengths|choose …
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import logging
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.labelled import SLOT_SEPARATOR
from espnet_prune.files.writing import write_text

logger = logging.getLogger(__name__)

UNKNOWN = "<unk>"  # ESPnet's task cls wants it last
RATES_FILE = "learning_rates.json"
SAMPLING_RATE = 16000  # of formatted audio, in Hz
RANDOM_CROPS = ("speaker_crops", "spk")  # preprocessors that cut them


def read_labels(folder: str | Path) -> data_dir.Table:
    """Utterance -> label, from a data directory's text.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no utterances, or a label that is empty or of several words.
    """
    path = Path(folder) / "text"
    labels = data_dir.read_table(path)
    if not labels:
        raise ValueError(f"{path}: is empty; prepare the directory again")
    for utterance, label in labels.items():
        if len(label.split()) != 1:
            what = f"'{label}' has several words" if label else "has no label"
            raise ValueError(f"{path}: {utterance}: {what}; one word is a label")
        if label == UNKNOWN:
            raise ValueError(f"{path}: {utterance}: {UNKNOWN} is ESPnet's own; rename the label")
    return labels


def class_list(train: str | Path, others: Sequence[str | Path]) -> list[str]:
    """The sorted classes of the training data.

    Args:
        train: its data directory.
        others: data directories in which no other class may be.

    Raises:
        FileNotFoundError, ValueError: as `read_labels`; fewer than two classes, or a class that
            is not in the training data.
    """
    classes = sorted(set(read_labels(train).values()))
    if len(classes) < 2:
        raise ValueError(f"{Path(train) / 'text'}: only the class {classes[0]}; two are needed")
    for other in others:
        numbers = Counter(read_labels(other).values())
        unseen = sorted(numbers.keys() - set(classes))
        if unseen:
            raise ValueError(
                f"{Path(other) / 'text'}: class {unseen[0]} of {numbers[unseen[0]]} utterances is "
                f"not in {Path(train) / 'text'}, so it cannot be learnt; add training data, or "
                "leave these utterances out"
            )
    return classes


def slot_classes(
    train: str | Path, others: Sequence[str | Path]
) -> tuple[list[str], tuple[int, ...]]:
    """All combinations of the values that each slot has in the training data, and their numbers.

    A label is ``value+value+…``, a value for each slot. The last slot changes fastest, as
    `espnet_prune.plugin.probes.SlotDecoder` wants the classes.

    Raises:
        FileNotFoundError, ValueError: as `class_list` (for the values), or a label with another
            number of slots.
    """
    values: list[list[str]] = []
    for folder in (train, *others):
        found = [label.split(SLOT_SEPARATOR) for label in read_labels(folder).values()]
        number = len(values) or len(found[0])
        wrong = [slots for slots in found if len(slots) != number or not all(slots)]
        if wrong:
            raise ValueError(
                f"{Path(folder) / 'text'}: '{SLOT_SEPARATOR.join(wrong[0])}' has not {number} "
                f"values with {SLOT_SEPARATOR} between"
            )
        columns = [sorted(set(column)) for column in zip(*found, strict=True)]
        if not values:
            values = columns
        for place, (known, column) in enumerate(zip(values, columns, strict=True), 1):
            unseen = sorted(set(column) - set(known))
            if unseen:
                raise ValueError(
                    f"{Path(folder) / 'text'}: value {unseen[0]} of slot {place} is not in "
                    f"{Path(train) / 'text'}, so it cannot be learnt"
                )
    classes = [SLOT_SEPARATOR.join(each) for each in itertools.product(*values)]
    return classes, tuple(len(column) for column in values)


def write_labels(
    train: str | Path, others: Sequence[str | Path], output_dir: str | Path, slots: bool = False
) -> int:
    """Write what ESPnet's task cls needs about the classes; returns their number.

    ``labels.txt`` in `output_dir` has the classes, `<unk>` last; with `slots`, ``slot_sizes`` has
    the numbers of values, as ``[6,14,4]``. ``category2utt`` in `train` has the utterances of each
    class, for ESPnet's batches in which the classes are balanced.

    Raises:
        FileNotFoundError, ValueError: as `class_list` or `slot_classes`.
    """
    output_dir = Path(output_dir)
    if slots:
        classes, sizes = slot_classes(train, others)
        write_text(output_dir / "slot_sizes", f"[{','.join(map(str, sizes))}]\n")
    else:
        classes = class_list(train, others)
    by_class = data_dir.speaker_utterances(read_labels(train))
    data_dir.write_table(Path(train) / "category2utt", by_class)
    write_text(output_dir / "labels.txt", "\n".join([*classes, UNKNOWN]) + "\n")
    return len(classes)


def check_lengths(
    upstream: str | Path, config: dict, train: Sequence[str | Path], others: Sequence[str | Path]
) -> None:
    """Whether an encoder takes every utterance.

    Args:
        upstream: directory or hub name of the encoder.
        config: of the probe's training; its frontend may crop utterances in training.
        train, others: data directories as format_wav writes them.

    Raises:
        FileNotFoundError: no such encoder or directory.
        ValueError: an utterance is shorter than the encoder's receptive field, or longer than what
            it takes at once.
    """
    from espnet_prune.structured import load_encoder  # torch takes seconds

    encoder = load_encoder(upstream)
    base, rate = encoder.config.base, encoder.sampling_rate
    least = encoder.family_of.minimum_samples(base)
    most = encoder.family_of.maximum_samples(base)
    crop = (config.get("frontend_conf") or {}).get("crop_seconds")
    for folder in (*train, *others):
        path = Path(folder) / "utt2num_samples"
        samples = {name: int(number) for name, number in data_dir.read_table(path).items()}
        short = [name for name, number in samples.items() if number < least]
        long = [name for name, number in samples.items() if most and number > most]
        if crop and folder in train and most and crop * rate <= most:
            long = []
        for names, what, limit in (
            (short, "shorter than the receptive field of", least),
            (long, "longer than what can be heard at once by", most),
        ):
            if names:
                raise ValueError(
                    f"{path}: {names[0]} has {samples[names[0]]} samples, {what} the "
                    f"{encoder.family} encoder, {limit} ({len(names)} utterances); leave them out "
                    "in local/data.sh"
                )


def check_cacheable(config: dict) -> None:
    """Whether a training hears the same waveforms in each epoch, as a cache of features needs.

    Args:
        config: of the probe's training.

    Raises:
        ValueError: it cuts another random crop each time, so that the cache would grow with every
            batch and nothing in it would be found again.
    """
    crop = (config.get("frontend_conf") or {}).get("crop_seconds")
    preprocessor = config.get("preprocessor")
    what = None
    if crop is not None:
        what = f"frontend_conf crop_seconds: {crop}"
    elif preprocessor in RANDOM_CROPS:
        what = f"preprocessor: {preprocessor}"
    if what:
        raise ValueError(
            f"--feature_cache true: not with '{what}', which cuts another random crop in each "
            "epoch: none would be found in the cache again; say --feature_cache false"
        )


def announce_cache(
    upstream: str | Path, directory: str | Path, folders: Sequence[str | Path], device: str = "cpu"
) -> str:
    """How much disk the features of data directories need and whether they save time, for the user.

    Args:
        upstream: directory or hub name of the encoder.
        directory: of the cache; it may not be there yet.
        folders: data directories as format_wav writes them. An utterance that is in several of them
            counts once.
        device: of the encoder.

    Raises:
        ValueError: so much is not free.
    """
    from espnet_prune.structured import load_encoder
    from espnet_prune.structured.distill.feature_cache import bytes_of

    table: data_dir.Table = {}
    for folder in folders:
        table.update(data_dir.read_table(Path(folder) / "utt2num_samples"))
    samples = [int(number) for number in table.values()]
    encoder = load_encoder(upstream)
    need = sum(bytes_of(encoder, number) for number in samples)
    place = Path(directory).absolute()
    there = next(each for each in (place, *place.parents) if each.exists())
    free = shutil.disk_usage(there).free
    text = (
        f"{directory}: the hidden states of {len(samples)} utterances need {need / 1e9:.2f} GB, "
        f"{free / 1e9:.2f} GB are free"
    )
    if need > free:
        raise ValueError(f"{text}; say --feature_cache false")
    seconds = statistics.median(samples) / SAMPLING_RATE
    return f"{text}\n{cache_speed(upstream, directory, seconds, device)}"


def cache_speed(upstream: str | Path, directory: str | Path, seconds: float, device: str) -> str:
    """Whether reading hidden states takes less time than asking the encoder, for the user to read.

    Measured here and now with an utterance alone, as the cache does both. The file is read from
    disk, not from what the system keeps of it in memory, where that can be told to forget.

    Args:
        upstream: directory or hub name of the encoder.
        directory: of the cache.
        seconds: length of the utterance.
        device: of the encoder, as torch names it.
    """
    import torch

    from espnet_prune.structured import load_encoder
    from espnet_prune.structured.cost.measure import noise
    from espnet_prune.structured.distill.feature_cache import FeatureCache

    encoder = load_encoder(upstream).to(device).eval()
    wave = noise(seconds, 1, encoder.device, encoder.dtype)[0][0]
    layers = range(encoder.num_layers + 1)
    asked, read = [], []
    Path(directory).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as folder, torch.inference_mode():
        cache = FeatureCache(folder, encoder, full_window=True)
        for _ in range(4):
            begin = time.perf_counter()
            cache.ask(wave)[0].cpu()
            asked.append(time.perf_counter() - begin)
        cache.one(wave, layers)
        (file,) = Path(folder).glob("*/*.safetensors")
        for _ in range(4):
            _forget(file)
            begin = time.perf_counter()
            cache.one(wave, layers)[0].cpu()
            read.append(time.perf_counter() - begin)
    asked, read = (1000 * statistics.median(times[1:]) for times in (asked, read))
    verdict = "faster" if read < asked else "no faster: leave --feature_cache true out"
    return (
        f"{directory}: an utterance of {seconds:.1f} s takes the encoder {asked:.1f} ms, and "
        f"{read:.1f} ms to be read: from the second epoch on that is {verdict}"
    )


def _forget(file: Path) -> None:
    """Have the system drop what it keeps of a file in memory."""
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def best_value(train_dir: str | Path, statistic: str, mode: str) -> tuple[int, float]:
    """The best epoch of an ESPnet training on its validation data, and its value there.

    Args:
        train_dir: the training's directory.
        statistic: such as "acc".
        mode: "max" or "min".

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the statistic is not in it, or never was a number.
    """
    import torch

    path = Path(train_dir) / "checkpoint.pth"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; has the training ended?")
    with torch.serialization.safe_globals(_plain_values()):
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    values = {
        epoch: float(parts["valid"][statistic])
        for epoch, parts in state["reporter"]["stats"].items()
        if statistic in parts.get("valid", {})
    }
    values = {epoch: value for epoch, value in values.items() if math.isfinite(value)}
    if not values:
        raise ValueError(f"{path}: has no number valid.{statistic}")
    best = (max if mode == "max" else min)(values, key=lambda epoch: values[epoch])
    return best, values[best]


def _plain_values() -> list:
    """What is in ESPnet's statistics beside Python's own numbers, and may be unpickled."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    return [datetime.timedelta, np.dtype, *kinds, *names]


def choose(train_dirs: Sequence[str | Path], criterion: str, link: str | Path) -> Path:
    """The training that is best on its validation data; `link` is made to point to it.

    ``learning_rates.json`` beside `link` has the value of each. Of equals the first one is taken.

    Args:
        train_dirs: ESPnet trainings that differ in the learning rate alone.
        criterion: statistic and mode, such as "acc.max".

    Raises:
        FileNotFoundError, ValueError: as `best_value`, for all of them; or no such criterion.
    """
    statistic, _, mode = criterion.rpartition(".")
    if not statistic or mode not in ("min", "max"):
        raise ValueError(f"--criterion {criterion}: such as acc.max or loss.min is wanted")
    rows, failures = [], []
    for train_dir in map(Path, train_dirs):
        config = yaml.safe_load((train_dir / "config.yaml").read_text(encoding="utf-8"))
        row = {"train_dir": train_dir.name, "lr": config["optim_conf"].get("lr")}
        try:
            row["epoch"], row[f"valid.{statistic}"] = best_value(train_dir, statistic, mode)
        except ValueError as error:  # it diverged
            logger.warning("%s", error)
            failures.append(error)
        rows.append(row)
    done = [row for row in rows if "epoch" in row]
    if not done:
        raise failures[0]
    sign = 1 if mode == "max" else -1
    best = max(done, key=lambda row: sign * row[f"valid.{statistic}"])
    link = Path(link)
    record = {"criterion": f"valid.{criterion}", "chosen": best["lr"], "trainings": rows}
    write_text(link.with_name(RATES_FILE), json.dumps(record, indent=2) + "\n")
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.symlink_to(best["train_dir"])
    os.replace(temporary, link)
    return link.with_name(best["train_dir"])


def _labels(args: argparse.Namespace) -> None:
    number = write_labels(args.train, args.others, args.output_dir, args.slots == "true")
    print(f"{args.output_dir}/labels.txt: {number} classes")


def _lengths(args: argparse.Namespace) -> None:
    config = yaml.safe_load(args.config.read_text(encoding="utf-8")) if args.config else {}
    check_lengths(args.upstream, config, args.train, args.others)
    print(f"{args.upstream} takes all utterances")
    if args.cache:
        folders = [*args.train, *args.others]
        print(announce_cache(args.upstream, args.cache, folders, args.device))


def _cacheable(args: argparse.Namespace) -> None:
    try:
        check_cacheable(yaml.safe_load(args.config.read_text(encoding="utf-8")) or {})
    except ValueError as error:
        raise ValueError(f"{args.config}: {error}") from None


def _choose(args: argparse.Namespace) -> None:
    best = choose(args.train_dirs, args.criterion, args.link)
    print(f"{best}: the best by valid.{args.criterion}, see {args.link.with_name(RATES_FILE)}")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet_prune.evaluate.superb.preparation",
        description="Steps of SUPERB's recipes.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, function, summary):
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(function=function)
        return command

    command = add("labels", _labels, "write the list of classes of classification tasks")
    command.add_argument("--train", required=True, help="data directory of the training data")
    command.add_argument("--others", nargs="*", default=[], help="valid and test data")
    command.add_argument("--output_dir", required=True, help="for labels.txt and slot_sizes")
    command.add_argument(
        "--slots",
        choices=("true", "false"),
        default="false",
        help="labels are values of several slots with + between: list all combinations",
    )

    command = add("cacheable", _cacheable, "check that a training hears the same in each epoch")
    command.add_argument("--config", type=Path, required=True, help="of the probe's training")

    command = add("lengths", _lengths, "check that an encoder takes every utterance")
    command.add_argument("--upstream", required=True, help="directory or hub name of the encoder")
    command.add_argument("--config", type=Path, help="of the probe's training, for its cropping")
    command.add_argument("--train", nargs="*", default=[], help="formatted training data")
    command.add_argument("--others", nargs="*", default=[], help="formatted valid and test data")
    command.add_argument(
        "--cache", help="directory for hidden states: tell how much they need and what they save"
    )
    command.add_argument("--device", default="cpu", help="of the encoder, cpu or cuda")

    command = add("choose", _choose, "choose the training that is best on its validation data")
    command.add_argument("train_dirs", nargs="+", help="ESPnet trainings")
    command.add_argument("--criterion", required=True, help="such as acc.max")
    command.add_argument("--link", type=Path, required=True, help="link to make")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        args.function(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
