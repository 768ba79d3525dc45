import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_outputs import BaseModelOutput

from espnet_prune.speech_llm.compact.ear import Ear, Word, align, pieces
from espnet_prune.structured import load_encoder, slim
from espnet_prune.structured.whisper_decoder import (
    LOOP_COPIES,
    LOOP_PERIOD,
    LOOP_TOKENS,
    greedy_decode,
    loop_period,
    without_copies,
)
from test.espnet_prune.speech_llm.models import speech
from test.espnet_prune.tiny import random_masks
from test.espnet_prune.whispers import make_teacher, save_ear

HEADS = [[0, 1], [1, 0]]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A tiny Whisper with a window of a second that says when it hears what."""
    return save_ear(tmp_path_factory.mktemp("whisper"))


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_alignment_is_the_best_of_all(number, more, seed):
    frames = number + more
    scores = np.random.default_rng(seed).normal(size=(number, frames))
    values = {}
    for cut in itertools.combinations(range(1, frames), number - 1):
        starts, ends = (0, *cut), (*cut, frames)
        values[starts] = sum(
            scores[i, a:b].sum() for i, (a, b) in enumerate(zip(starts, ends, strict=True))
        )
    assert tuple(align(scores)) == max(values, key=values.get)


def test_more_tokens_than_frames_cannot_be_aligned():
    with pytest.raises(ValueError, match="3 tokens cannot be said in 2 frames"):
        align(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="0 tokens"):
        align(np.zeros((0, 2)))


@given(st.integers(1, 9000), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_parts_are_the_recording(samples, seed):
    wave = np.random.default_rng(seed).normal(size=samples).astype(np.float32)
    parts = pieces(wave, step=10, most=1000)
    np.testing.assert_array_equal(np.concatenate(parts), wave)
    assert all(len(part) <= 1000 for part in parts)
    assert all(len(part) >= 400 and len(part) % 10 == 0 for part in parts[:-1])


def test_parts_are_cut_in_the_pause():
    wave = np.ones(1900, np.float32)
    wave[600:700] = 0.0
    (first, second) = pieces(wave, step=10, most=1500)
    assert 600 <= len(first) <= 700 and len(first) + len(second) == 1900


def test_words_are_what_the_decoder_says_and_where_its_heads_look(whisper):
    ear = Ear(whisper)
    assert ear.most == 16000  # the window
    waves = [wave.numpy() for wave in speech(0.9, 0.4)]
    found = ear.hear(waves)
    for wave, words in zip(waves, found, strict=True):
        assert words and all(isinstance(word, Word) and word.text for word in words)
        frames = -(-len(wave) // 320)
        starts = [word.frame for word in words]
        assert starts == sorted(starts) and starts[0] == 0 and starts[-1] < frames
    # one by one the same
    assert [ear.hear([wave])[0] for wave in waves] == found
    # By hand: attention of the two heads for the second waveform
    text = "".join(word.text for word in found[1])
    with torch.no_grad():
        states = ear.encoder(torch.from_numpy(waves[1])[None], None, True).last_hidden_state
        rows = ear.whisper.generate(
            encoder_outputs=BaseModelOutput(states),
            max_new_tokens=20,
            do_sample=False,
            return_timestamps=False,
        )
        ids = [i for i in rows[0].tolist() if i < 256]
        assert text == ear.tokenizer.decode(ids).replace(" ", "")
        out = ear.whisper.model.decoder(
            input_ids=torch.tensor([[257, 258, *ids]]),
            encoder_hidden_states=states,
            output_attentions=True,
        )
    seen = torch.stack([out.cross_attentions[a][0, b, 1:, :20] for a, b in HEADS])
    seen = (seen - seen.mean(1, keepdim=True)) / seen.std(1, keepdim=True, correction=0)
    starts = align(seen.mean(0).double().numpy())
    assert {word.frame for word in found[1]} <= set(starts.tolist())


def test_silence_has_no_words_and_a_pruned_encoder_hears(whisper, tmp_path):
    masks = random_masks(load_encoder(whisper).plan(), torch.Generator().manual_seed(0))
    slim(load_encoder(whisper), masks).save_pretrained(tmp_path / "pruned")
    ear = Ear(whisper, tmp_path / "pruned")
    assert sum(p.numel() for p in ear.encoder.parameters()) < sum(
        p.numel() for p in load_encoder(whisper).parameters()
    )
    assert len(ear.hear([speech(0.5)[0].numpy()])) == 1


def test_a_whisper_that_does_not_say_where_it_looks(tmp_path):
    make_teacher(tmp_path)
    with pytest.raises(ValueError, match=r"generation_config.json: has no alignment_heads"):
        Ear(tmp_path)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, LOOP_PERIOD), st.integers(0, 999))
@settings(max_examples=200, deadline=None)
def test_what_repeats_itself_is_a_loop_and_ends_with_its_first_copy(before, period, seed):
    part = np.random.default_rng(seed).integers(4, 8, size=period).tolist()
    # a part may be copies of a smaller one
    smallest = next(p for p in range(1, period + 1) if part == part[:p] * (period // p))
    copies = max(LOOP_COPIES, -(-LOOP_TOKENS // smallest))
    row = before + part[:smallest] * copies
    assert loop_period(row) == smallest
    assert without_copies(row) == before + part[:smallest]
    # a token less, with others before it, is none
    assert loop_period([8, 9] + row[len(before) + 1 :]) is None


def test_a_refrain_is_no_loop():
    assert without_copies([1, 2, 3, 4, 5, 6, 7] * 2) == [1, 2, 3, 4, 5, 6, 7] * 2
    assert without_copies([5] * 11) == [5] * 11


def test_a_row_that_repeats_itself_ends(whisper):
    ear = Ear(whisper)
    with torch.no_grad():
        # Whatever is heard, the decoder says the same token
        ear.whisper.proj_out = torch.nn.Linear(16, 260)
        ear.whisper.proj_out.weight.zero_()
        ear.whisper.proj_out.bias.copy_(torch.zeros(260).index_fill(0, torch.tensor(7), 9.0))
    states = torch.randn(2, 50, 16, generator=torch.Generator().manual_seed(0))
    assert greedy_decode(ear.whisper, states, 20) == [[7] * 20] * 2
    assert greedy_decode(ear.whisper, states, 20, loops=False) == [[7]] * 2
