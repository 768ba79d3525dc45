"""The frozen teacher's hidden states on disk, for corpora that are seen more than once."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_prune.structured.distill.teacher import Teacher

#: beyond this float16 comes near its end, and a file holds float32
LARGEST_HALF = 6.0e4


class TeacherCache:
    """Asks a teacher once for every waveform and reads the answer from disk afterwards.

    An utterance goes through the teacher alone, without padding, so that its hidden states do not
    depend on its batch. They are found by the content of waveform and weights and by precision:
    nothing stale is ever read, and several trainings may share a directory. Half precision: for
    (T', D) hidden states of L layers an utterance takes 2 (L + 1) T' D bytes (5.8 MB for 30 s of
    Whisper tiny).

    Args:
        directory: made when it is not there.
        teacher: its weights must not change afterwards.
        full_window: as in `SpeechEncoder.forward`.
    """

    def __init__(self, directory: str | Path, teacher: Teacher, full_window: bool):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.teacher = teacher
        self.full_window = full_window
        encoder = teacher.encoder
        precision = teacher.dtype or ""
        digest = hashlib.blake2b(
            f"{full_window} {encoder.config.to_json_string()}{precision}".encode()
        )
        for name, value in encoder.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
        self.fingerprint = digest.digest()
        self._full = False

    def __call__(
        self, speech: Tensor, speech_lengths: Tensor, layers: Collection[int]
    ) -> dict[int, Tensor]:
        """number of a hidden state -> (B, T', D), zero in the padding, for the numbers in `layers`.

        Args:
            speech: (B, T) waveforms at 16 kHz.
            speech_lengths: (B,) samples.
        """
        each = [
            self.one(wave[:length], layers)
            for wave, length in zip(speech, speech_lengths.tolist(), strict=True)
        ]
        return {
            number: pad_sequence([states[number].float() for states in each], batch_first=True)
            for number in layers
        }

    def one(self, wave: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
        """number of a hidden state -> (T', D), of one waveform (T,), from disk if it is there."""
        digest = hashlib.blake2b(self.fingerprint, digest_size=20)
        device = wave.device.type
        if self.teacher.dtype is None and torch.is_autocast_enabled(device):
            digest.update(str(torch.get_autocast_dtype(device)).encode())
        digest.update(wave.cpu().contiguous().numpy())
        path = self.directory / digest.hexdigest()[:2] / f"{digest.hexdigest()}.safetensors"
        if path.is_file():
            with safe_open(path, framework="pt", device=str(wave.device)) as file:
                return {number: file.get_tensor(str(number)) for number in layers}
        answer = self.ask(wave)
        self._write(path, answer)
        return answer

    def ask(self, wave: Tensor) -> dict[int, Tensor]:
        """What is kept of a waveform (T,): number of a hidden state -> (T', D)."""
        encoder = self.teacher.encoder
        inputs = encoder.prepare(wave[None], torch.tensor([len(wave)]), self.full_window)
        # All states, so that trainings which compare other layers find theirs, too
        states = self.teacher(inputs, range(encoder.num_layers + 1))
        answer = {}
        for number, state in states.items():
            fits = float(state.abs().max()) < LARGEST_HALF
            answer[number] = (state[0].half() if fits else state[0]).contiguous()
        return answer

    def _write(self, path: Path, answer: dict[int, Tensor]) -> None:
        """Keep an answer; on a full disk go on without, since the cache is only for speed."""
        if self._full:
            return
        temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
        try:
            path.parent.mkdir(exist_ok=True)
            save_file({str(n): state.cpu() for n, state in answer.items()}, temporary)
            os.replace(temporary, path)
        except Exception as error:  # safetensors has its own class for a failed write
            self._full = True
            temporary.unlink(missing_ok=True)
            logging.warning(
                f"{self.directory}: the teacher's hidden states are not cached any more, and "
                f"training goes on without: {error}"
            )
