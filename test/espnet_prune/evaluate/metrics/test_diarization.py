import itertools
import re
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.data.rttm import Turn, read_rttm, rttm_text
from espnet_prune.evaluate.metrics.diarization import (
    count_diarization_errors,
    diarization_error_rate,
    frames_to_turns,
)

TURNS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(1, 15)).map(
        lambda t: Turn(t[0], t[1] / 4, (t[1] + t[2]) / 4)
    ),
    max_size=8,
)


def seconds(reference, hypothesis):
    errors = count_diarization_errors({"r": reference}, {"r": hypothesis})
    return [
        float(part[0])
        for part in (errors.missed, errors.false_alarm, errors.confusion, errors.speech)
    ]


def test_by_hand():
    reference = [Turn("a", 0, 10), Turn("b", 8, 12)]
    # x is a (8 s together), y is b (1 s). 2 s of a are missed at the start, 2 s of b from 8 on, x
    # talks instead of b from 10 to 11, and y goes on for 1 s too long.
    hypothesis = [Turn("x", 2, 11), Turn("y", 11, 13)]
    missed, false_alarm, confusion, speech = seconds(reference, hypothesis)
    assert (missed, false_alarm, confusion, speech) == (2 + 2, 1, 1, 14)
    errors = count_diarization_errors({"r": reference}, {"r": hypothesis})
    assert diarization_error_rate(errors).value == pytest.approx(6 / 14)


def test_matching_maximises_the_time_together():
    # The longest overlap is a with x (5 s), but then b and y have nothing together.
    reference = [Turn("a", 0, 9), Turn("b", 9, 13)]
    hypothesis = [Turn("y", 0, 4), Turn("x", 4, 13)]
    assert seconds(reference, hypothesis)[2] == 5  # a is y, b is x: 4 + 4 of 13 s are right


def test_recordings_are_pooled_and_a_missing_one_is_missed():
    references = {"one": [Turn("a", 0, 6)], "two": [Turn("a", 0, 2)]}
    errors = count_diarization_errors(references, {"one": [Turn("b", 0, 6)]})
    result = diarization_error_rate(errors)
    assert result.value == pytest.approx(2 / 8)
    assert (result.low, result.high) == (0, 1)
    with pytest.raises(ValueError, match="1 recordings are not in the reference, the first is x"):
        count_diarization_errors(references, {"x": []})
    with pytest.raises(ValueError, match="no recording"):
        count_diarization_errors({}, {})
    with pytest.raises(ValueError, match="references are empty"):
        diarization_error_rate(count_diarization_errors({"one": []}, {}))


@settings(max_examples=50, deadline=None)
@given(TURNS, TURNS)
def test_invariants(reference, hypothesis):
    missed, false_alarm, confusion, speech = seconds(reference, hypothesis)
    assert min(missed, false_alarm, confusion) >= 0 and missed + confusion <= speech + 1e-9
    renamed = [
        turn._replace(speaker={"a": "c", "b": "a", "c": "b"}[turn[0]]) for turn in hypothesis
    ]
    assert seconds(reference, renamed) == pytest.approx([missed, false_alarm, confusion, speech])
    swapped = seconds(hypothesis, reference)
    assert swapped[:3] == pytest.approx([false_alarm, missed, confusion])
    assert seconds(reference, reference)[:3] == [0, 0, 0]
    halves = [
        part
        for turn in hypothesis
        for middle in [(turn.begin + turn.end) / 2]
        for part in (turn._replace(end=middle), turn._replace(begin=middle))
    ]
    assert seconds(reference, halves) == pytest.approx([missed, false_alarm, confusion, speech])


def random_recordings(seed, recordings=12, speakers="abc", quiet=0):
    generator = np.random.default_rng(seed)
    found = {}
    for number in range(recordings):
        turns = []
        for speaker in speakers:
            # A speaker's own turns do not overlap: tools differ in how they merge those.
            times = np.sort(generator.choice(np.arange(quiet, 400), 6, replace=False)) / 10
            turns += [Turn(speaker, *pair) for pair in times.reshape(3, 2).tolist()]
        found[f"rec{number}"] = turns
    return found


def frames_wrong(reference, hypothesis, step=0.1):
    """Missed, false alarm, confusion and speech in frames, by trying every matching of speakers."""

    def active(turns):
        rows = np.zeros((4, 1000), dtype=bool)
        names = sorted({turn.speaker for turn in turns})
        for turn in turns:
            first, last = round(turn.begin / step), round(turn.end / step)
            rows[names.index(turn.speaker), first:last] = True
        return rows

    spoken, guessed = active(reference), active(hypothesis)
    together = max((spoken & guessed[list(o)]).sum() for o in itertools.permutations(range(4)))
    true, found = spoken.sum(axis=0), guessed.sum(axis=0)
    missed, false_alarm = np.maximum(true - found, 0).sum(), np.maximum(found - true, 0).sum()
    return [missed, false_alarm, np.minimum(true, found).sum() - together, true.sum()]


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_counting_frames(seed):
    references = random_recordings(seed)
    hypotheses = random_recordings(seed + 10, speakers="wxyz"[: 2 + 2 * seed])
    errors = count_diarization_errors(references, hypotheses)
    parts = (errors.missed, errors.false_alarm, errors.confusion, errors.speech)
    for found, name in zip(np.stack(parts, axis=1), references, strict=True):
        assert found == pytest.approx(
            [0.1 * n for n in frames_wrong(references[name], hypotheses[name])]
        )


def test_agrees_with_md_eval(tmp_path, sctk):
    references = random_recordings(3)
    hypotheses = random_recordings(4, speakers="wxyz")
    (tmp_path / "ref.rttm").write_text(rttm_text(references))
    (tmp_path / "hyp.rttm").write_text(rttm_text(hypotheses))
    # Without a UEM file md-eval leaves out what lies beyond the reference.
    (tmp_path / "all.uem").write_text("".join(f"{name} 1 0 100\n" for name in references))
    command = [*sctk("md-eval"), "-c", "0", "-r", "ref.rttm", "-s", "hyp.rttm", "-u", "all.uem"]
    out = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    rate = float(re.search(r"OVERALL SPEAKER DIARIZATION ERROR = ([\d.]+) percent", out)[1])
    errors = count_diarization_errors(references, hypotheses)
    assert 100 * diarization_error_rate(errors).value == pytest.approx(rate, abs=0.01)


def test_frames_to_turns_by_hand():
    probabilities = np.array([[0.9, 0.5], [0.6, 0.7], [0.2, 0.8], [0.6, 0.1]])
    turns = frames_to_turns(probabilities, frame_shift=0.5, threshold=0.5)
    assert turns == [Turn("0", 0, 1), Turn("0", 1.5, 2), Turn("1", 0.5, 1.5)]
    assert frames_to_turns(probabilities, 0.5, threshold=0.95) == []
    # Of the three decisions around each frame (no speech beyond the ends) the middle one.
    turns = frames_to_turns(probabilities, frame_shift=0.5, threshold=0.5, median=3)
    assert turns == [Turn("0", 0, 1.5), Turn("1", 0.5, 1.5)]


def test_rttm_there_and_back(tmp_path):
    turns = {"b": [Turn("x", 0.25, 1.5), Turn("y", 1.0, 2.0)], "a": [Turn("x", 0.0, 0.125)]}
    (tmp_path / "rttm").write_text(
        "SPKR-INFO b 1 <NA> <NA> <NA> unknown x <NA>\n" + rttm_text(turns)
    )
    assert read_rttm(tmp_path / "rttm") == turns


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER a 1 0.0", "line 1: not 'SPEAKER recording"),
        ("SPEAKER a 1 x 1.0 <NA> <NA> s <NA> <NA>", "line 1: not 'SPEAKER recording"),
        ("SPEAKER a 1 1.0 -1.0 <NA> <NA> s <NA> <NA>", "line 1: not 'SPEAKER recording"),
        ("SPEAKER a 1 nan 1.0 <NA> <NA> s <NA> <NA>", "line 1: not 'SPEAKER recording"),
        ("END a <NA> 4023 <NA> <NA> <NA> <NA>", "counts samples; give one in seconds"),
    ],
)
def test_bad_rttm(tmp_path, line, message):
    (tmp_path / "rttm").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_rttm(tmp_path / "rttm")
    with pytest.raises(FileNotFoundError, match="none: no such file"):
        read_rttm(tmp_path / "none")
