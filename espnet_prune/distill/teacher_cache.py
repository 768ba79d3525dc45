"""The frozen teacher's hidden states on disk, for corpora that are seen more than once."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_prune.structure import SpeechEncoder, SpeechEncoderOutput

#: beyond this float16 comes near its end, and a file holds float32
LARGEST_HALF = 6.0e4


class TeacherCache:
    """Calls a frozen encoder once for every waveform and reads the answer from disk afterwards.

    An utterance goes through the teacher alone, without padding, so that its hidden states do not
    depend on its batch. They are found by the content of waveform and weights: nothing stale is
    ever read, and several trainings may share a directory. Half precision: for (T', D) hidden
    states of L layers an utterance takes 2 (L + 1) T' D bytes (5.8 MB for 30 s of Whisper tiny).

    Args:
        directory: made when it is not there.
        teacher: in eval mode; its weights must not change afterwards.
        full_window: as in `SpeechEncoder.forward`.
    """

    def __init__(self, directory: str | Path, teacher: SpeechEncoder, full_window: bool):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.teacher = teacher
        self.full_window = full_window
        digest = hashlib.blake2b(f"{full_window} {teacher.config.to_json_string()}".encode())
        for name, value in teacher.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
        self._fingerprint = digest.digest()
        self._full = False

    @torch.no_grad()
    def __call__(self, speech: Tensor, speech_lengths: Tensor) -> SpeechEncoderOutput:
        """Hidden states as `SpeechEncoder.forward` gives them, zero in the padding.

        Args:
            speech: (B, T) waveforms at 16 kHz.
            speech_lengths: (B,) samples.
        """
        each = [
            self._one(wave[:length])
            for wave, length in zip(speech, speech_lengths.tolist(), strict=True)
        ]
        states = tuple(
            pad_sequence([answer[str(n)].float() for answer in each], batch_first=True)
            for n in range(self.teacher.num_layers + 1)
        )
        lengths = torch.cat([answer["lengths"] for answer in each])
        return SpeechEncoderOutput(hidden_states=states, lengths=lengths)

    def _one(self, wave: Tensor) -> dict[str, Tensor]:
        digest = hashlib.blake2b(self._fingerprint, digest_size=20)
        digest.update(wave.cpu().contiguous().numpy())
        path = self.directory / digest.hexdigest()[:2] / f"{digest.hexdigest()}.safetensors"
        if path.is_file():
            return load_file(path, device=str(wave.device))
        output = self.teacher(wave[None], torch.tensor([len(wave)]), self.full_window)
        answer = {"lengths": output.lengths.reshape(1)}
        for n, state in enumerate(output.hidden_states):
            fits = float(state.abs().max()) < LARGEST_HALF
            answer[str(n)] = (state[0].half() if fits else state[0]).contiguous()
        self._write(path, answer)
        return answer

    def _write(self, path: Path, answer: dict[str, Tensor]) -> None:
        """Keep an answer; on a full disk go on without, since the cache is only for speed."""
        if self._full:
            return
        temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
        try:
            path.parent.mkdir(exist_ok=True)
            save_file({name: value.cpu() for name, value in answer.items()}, temporary)
            os.replace(temporary, path)
        except Exception as error:  # safetensors has its own class for a failed write
            self._full = True
            temporary.unlink(missing_ok=True)
            logging.warning(
                f"{self.directory}: the teacher's hidden states are not cached any more, and "
                f"training goes on without: {error}"
            )
