"""Crops and the order of batches, as ESPnet's own iterators deliver them to the task."""

import numpy as np
import pytest
import soundfile
from espnet2.train.distributed_utils import DistributedOption
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.plugin.tasks.ssl_prune import RandomCrop, SSLPruneTask
from test.espnet_prune.tiny import saved


def unchanged(utt_id, data):
    return data


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(0, 9),
    st.integers(0, 9),
    st.text("ab", max_size=4),
)
def test_a_crop_is_a_part_and_follows_from_its_arguments(length, samples, seed, epoch, utt_id):
    def crop():
        crop = RandomCrop(unchanged, samples, seed, epoch)
        return crop(utt_id, {"speech": np.arange(length), "other": np.ones(2)})

    speech = crop()["speech"]
    assert len(speech) == min(length, samples) and crop()["other"].sum() == 2
    assert np.array_equal(speech, np.arange(speech[0], speech[0] + len(speech)))
    assert np.array_equal(speech, crop()["speech"])


def test_every_place_is_found():
    crop = RandomCrop(unchanged, 7, seed=3)
    starts = {}
    for crop.epoch in range(200):
        start = int(crop("utt", {"speech": np.arange(10)})["speech"][0])
        starts[start] = starts.get(start, 0) + 1
    # 200 draws of 4 places: 50 each, within 4 standard deviations of 6.1
    assert set(starts) == {0, 1, 2, 3} and all(abs(n - 50) < 25 for n in starts.values())


LENGTHS = [1600 + 320 * n for n in range(12)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Utterances whose samples are their own positions."""
    folder = tmp_path_factory.mktemp("corpus")
    scp, shape = [], []
    for n, length in enumerate(LENGTHS):
        path = folder / f"{n}.wav"
        soundfile.write(path, np.arange(length, dtype=np.int16), 16000)
        scp.append(f"utt{n} {path}\n")
        shape.append(f"utt{n} {length}\n")
    (folder / "wav.scp").write_text("".join(scp))
    (folder / "shape").write_text("".join(shape))
    return folder


def arguments(corpus, *options):
    args = ["--output_dir", str(corpus), "--batch_type", "numel", "--batch_bins", "5500"]
    for part in ("train", "valid"):
        args += [f"--{part}_data_path_and_name_and_type", f"{corpus}/wav.scp,speech,sound"]
        args += [f"--{part}_shape_file", f"{corpus}/shape"]
    return SSLPruneTask.get_parser().parse_args([*args, *options])


def factory(corpus, mode, *options):
    return SSLPruneTask.build_iter_factory(arguments(corpus, *options), DistributedOption(), mode)


def epoch(factory, number):
    """(utterance, first position, length) of all batches, in their order."""
    return [
        [
            (utt_id, round(float(speech[0]) * 32768), int(length))
            for utt_id, speech, length in zip(
                utt_ids, batch["speech"], batch["speech_lengths"], strict=True
            )
        ]
        for utt_ids, batch in factory.build_iter(number)
    ]


@pytest.mark.parametrize("iters", [None, 3])
def test_batches_are_of_like_lengths_in_another_order_each_epoch(corpus, iters):
    options = [] if iters is None else ["--num_iters_per_epoch", str(iters)]
    train = factory(corpus, "train", "--num_workers", "0", *options)
    epochs = [epoch(train, number) for number in (1, 2, 3, 4)]
    if iters is not None:  # a pass over the corpus takes two epochs
        assert len(epochs[0]) == iters
        epochs = [epochs[0] + epochs[1], epochs[2] + epochs[3]]
    buckets = [sorted(sorted(utt for utt, *_ in batch) for batch in part) for part in epochs]
    assert all(bucket == buckets[0] for bucket in buckets) and len(buckets[0]) == 6
    for part in epochs:
        assert sorted(length for batch in part for *_, length in batch) == LENGTHS
        for batch in part:  # neighbours by length
            lengths = sorted(length for *_, length in batch)
            assert lengths[-1] - lengths[0] == 320 * (len(lengths) - 1)
    orders = [[batch[0][0] for batch in part] for part in epochs]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_crops_depend_on_seed_and_epoch_alone(corpus):
    crop = ["--crop_seconds", "0.15"]  # 2400 samples

    def train(*options):
        return factory(corpus, "train", *crop, *options)

    first = epoch(train("--num_workers", "0"), 1)
    flat = [row for batch in first for row in batch]
    by_name = {utt: (start, length) for utt, start, length in flat}
    for n, length in enumerate(LENGTHS):
        start, got = by_name[f"utt{n}"]
        assert got == min(length, 2400) and 0 <= start <= length - got
    assert len({start for start, _ in by_name.values()}) > 5
    assert epoch(train("--num_workers", "2"), 1) == first
    again = train("--num_workers", "0")
    second = epoch(again, 2)  # as after --resume
    assert sorted(sum(second, [])) != sorted(flat) and epoch(again, 1) == first
    other = epoch(train("--num_workers", "0", "--seed", "1"), 1)
    assert sorted(sum(other, [])) != sorted(flat)


def test_validation_is_not_cropped(corpus):
    valid = factory(corpus, "valid", "--crop_seconds", "0.15", "--num_workers", "0")
    rows = sorted(row[1:] for batch in epoch(valid, 1) for row in batch)
    assert rows == [(0, length) for length in LENGTHS]


def test_errors(corpus, tmp_path):
    with pytest.raises(ValueError, match="crop_seconds: not with iterator_type 'chunk'"):
        factory(
            corpus,
            "train",
            "--crop_seconds",
            "1",
            "--iterator_type",
            "chunk",
            "--chunk_length",
            "9",
        )
    options = ["--teacher", str(saved("wavlm-base", tmp_path))]
    with pytest.raises(ValueError, match="crop_seconds is 0.0, but has to be positive"):
        SSLPruneTask.build_model(arguments(corpus, *options, "--crop_seconds", "0"))
    options += ["--crop_seconds", "1", "--model_conf", f"teacher_cache={tmp_path}"]
    with pytest.raises(ValueError, match="crop_seconds: another crop in each epoch is never found"):
        SSLPruneTask.build_model(arguments(corpus, *options))
