"""The ear of the compact speech LLM: Whisper, and when it hears each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from espnet_prune.data.audio import SAMPLING_RATE
from espnet_prune.structured.whisper_decoder import greedy_decode, load_with_decoder, prompt_of

#: longest part that is heard at once, in seconds, see `pieces`
MOST_SECONDS = 20
#: what begins a word in the byte-pair tokenizers of GPT-2
_BLANK = "Ġ"


@dataclass(frozen=True)
class Word:
    """A word with its marks, as Whisper writes it, and the encoder frame in which it begins."""

    text: str
    frame: int


class Ear:
    """Whisper's decoder behind its own encoder or a pruned one.

    Args:
        whisper: directory of a whole Whisper.
        encoder: directory of a dense or pruned encoder; None: Whisper's own.
    Raises:
        FileNotFoundError, ValueError: as `load_with_decoder`, or the generation config has no
            `alignment_heads`.
    """

    def __init__(self, whisper: str | Path, encoder: str | Path | None = None):
        self.whisper, self.encoder = load_with_decoder(whisper, encoder, attention="eager")
        self.tokenizer = AutoTokenizer.from_pretrained(whisper, trust_remote_code=False)
        heads = getattr(self.whisper.generation_config, "alignment_heads", None)
        if not heads:
            file = Path(whisper) / "generation_config.json"
            raise ValueError(f"{file}: has no alignment_heads, so that words have no times")
        self.heads: list[tuple[int, int]] = heads
        #: samples of the longest waveform that is heard at once
        self.most = MOST_SECONDS * SAMPLING_RATE
        window = self.encoder.family_of.maximum_samples(self.encoder.config.base)
        if window is not None:
            self.most = min(self.most, window)

    def to(self, device: str) -> Ear:
        """Move both networks."""
        self.whisper.to(device)
        self.encoder.to(device)
        return self

    @torch.no_grad()
    def hear(self, waves: Sequence[np.ndarray]) -> list[list[Word]]:
        """Words, in time order, of float32 waveforms (T_i,) at 16 kHz of up to `most` samples."""
        speech = [torch.from_numpy(wave).to(self.encoder.device) for wave in waves]
        lengths = torch.tensor(list(map(len, waves)), device=self.encoder.device)
        states = self.encoder(pad_sequence(speech, batch_first=True), lengths, True)
        # Half of the decoder's context, as in the original implementation
        limit = self.whisper.config.max_target_positions // 2
        found = greedy_decode(self.whisper, states.last_hidden_state, limit, loops=False)
        return [
            self._words(row, states.last_hidden_state[b : b + 1], len(waves[b]))
            for b, row in enumerate(found)
        ]

    def _words(self, row: list[int], states: Tensor, samples: int) -> list[Word]:
        frames = -(-samples // self.encoder.samples_per_frame)
        special = set(self.tokenizer.all_special_ids)
        ids = [i for i in row if i not in special][: frames - 1]
        if not ids:
            return []
        groups: list[tuple[list[int], int]] = []
        tokens = self.tokenizer.convert_ids_to_tokens(ids)
        starts = align(self._attention(ids, states, frames))[:-1]
        for i, token, start in zip(ids, tokens, starts, strict=True):
            if token.startswith(_BLANK) or not groups:
                groups.append(([], int(start)))
            groups[-1][0].append(i)
        words = ((self.tokenizer.decode(group).strip(), start) for group, start in groups)
        return [Word(text, start) for text, start in words if text]

    def _attention(self, ids: list[int], states: Tensor, frames: int) -> np.ndarray:
        """(N + 1, frames): how the heads that follow the speech attend when each token, and then
        the end, is said."""
        prompt = prompt_of(self.whisper.generation_config)
        given = torch.tensor([prompt + ids], device=states.device)
        out = self.whisper.model.decoder(
            input_ids=given, encoder_hidden_states=states, output_attentions=True, use_cache=False
        )
        heads = [out.cross_attentions[layer][0, head] for layer, head in self.heads]
        seen = torch.stack(heads)[:, len(prompt) - 1 :, :frames]
        # What a frame gets from every token, silence above all, says nothing of one
        middle, width = seen.mean(1, keepdim=True), seen.std(1, keepdim=True, correction=0)
        found = ((seen - middle) / width.clamp(min=1e-6)).mean(0)
        return pad(found, (0, frames - found.shape[1])).cpu().double().numpy()


def pieces(speech: np.ndarray, step: int, most: int) -> list[np.ndarray]:
    """Parts of a recording, (T,) float32 at 16 kHz, cut where it is quietest.

    In windows that are cut anywhere Whisper leaves out what follows a pause, or a cut in a word.

    Args:
        step: samples; all parts but the last one are multiples of it.
        most: samples of a part; but for the last one it has two fifths of them or more.
    """
    steps = [speech[i : i + step] for i in range(0, len(speech), step)]
    energy = np.array([float(np.square(part).mean()) for part in steps])
    quiet = np.convolve(energy, np.ones(5) / 5, "same")
    longest = max(most // step, 1)
    shortest = max(2 * longest // 5, 1)
    found, start = [], 0
    while len(steps) - start > longest:
        around = quiet[start + shortest : start + longest + 1]
        # the last one of several: fewer parts
        end = start + longest - int(around[::-1].argmin())
        found.append(speech[start * step : end * step])
        start = end
    return [*found, speech[start * step :]]


def align(scores: np.ndarray) -> np.ndarray:
    """First frame of each token on the best way through all frames, (N,) rising.

    Every token has one frame or more, in order (dynamic time warping without standing still):

        D_ij = scores_ij + max(D_i,j-1, D_i-1,j-1)

    Args:
        scores: (N, T) of N tokens in T frames, N <= T, else a ValueError.
    """
    number, frames = scores.shape
    if not 0 < number <= frames:
        raise ValueError(f"{number} tokens cannot be said in {frames} frames")
    # The best way to enter token i in frame j, and to be in it later: with C the sum of its scores
    # up to a frame, D_ij = C_j + max_k<=j (D_i-1,k-1 - C_k-1)
    before = np.full(frames, -np.inf)
    before[0] = 0.0
    entered = np.empty((number, frames), dtype=np.int64)
    for i, row in enumerate(scores):
        total = np.cumsum(row)
        gain = before - (total - row)
        best = np.maximum.accumulate(gain)
        entered[i] = np.maximum.accumulate(np.where(gain == best, np.arange(frames), 0))
        before = np.concatenate([[-np.inf], (total + best)[:-1]])
    starts = np.empty(number, dtype=np.int64)
    end = frames - 1
    for i in range(number - 1, -1, -1):
        starts[i] = entered[i, end]
        end = starts[i] - 1
    return starts
