"""Hidden states of a frozen encoder on disk, for corpora that are seen more than once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_prune.files.freshness import code_of
from espnet_prune.files.writing import write_file
from espnet_prune.structured.distill.teacher import Teacher
from espnet_prune.structured.encoder import SpeechEncoder
from espnet_prune.structured.tensor_files import check_finite

#: beyond this float16 comes near its end, and a file holds float32
LARGEST_HALF = 6.0e4


class StateCache:
    """Asks an encoder once for every waveform and reads the answer from disk afterwards.

    An utterance goes through the encoder alone, without padding, so that its hidden states do not
    depend on its batch. They are found by the content of waveform and weights and by precision:
    nothing stale is ever read, and several trainings may share a directory.

    Args:
        directory: made when it is not there.
        encoder: frozen; its weights must not change afterwards.
        full_window: as in `SpeechEncoder.forward`.
        dtype: the encoder's precision where it is fixed, None where the caller's autocast sets it.
        kind: of the answers; different kinds of the same encoder do not meet.
    """

    def __init__(
        self,
        directory: str | Path,
        encoder: SpeechEncoder,
        full_window: bool,
        dtype: str | None = None,
        kind: bytes = b"",
    ):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.encoder, self.full_window, self.dtype = encoder, full_window, dtype
        code = code_of("structured/encoder.py", "structured/families", "structured/distill")
        described = f"{code} {full_window} {encoder.config.to_json_string()}{dtype or ''}"
        digest = hashlib.blake2b(described.encode())
        for name, value in encoder.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
        self.fingerprint = digest.digest() + kind
        self._full = False

    def ask(self, wave: Tensor) -> dict[int, Tensor]:
        """What is kept of a waveform (T,): number of a hidden state -> (T', D)."""
        raise NotImplementedError

    def padded(
        self, speech: Tensor, lengths: Tensor, layers: Collection[int]
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Hidden states of (B, T) waveforms at 16 kHz with (B,) samples, from disk where they are.

        Returns: number of a hidden state -> (B, T', D), zero in the padding, for the numbers in
            `layers`; frames (B,), of which T' is the largest.
        """
        rows = zip(speech, lengths.tolist(), strict=True)
        each = [self.one(wave[:length], layers) for wave, length in rows]
        padded = {n: pad_sequence([states[n] for states in each], True) for n in layers}
        frames = [len(next(iter(states.values()))) for states in each]
        return padded, torch.tensor(frames, device=lengths.device)

    def one(self, wave: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
        """number of a hidden state -> (T', D), of one waveform (T,), from disk if it is there."""
        digest = hashlib.blake2b(self.fingerprint, digest_size=20)
        device = wave.device.type
        if self.dtype is None and torch.is_autocast_enabled(device):
            digest.update(str(torch.get_autocast_dtype(device)).encode())
        digest.update(wave.cpu().contiguous().numpy().tobytes())
        path = self.directory / digest.hexdigest()[:2] / f"{digest.hexdigest()}.safetensors"
        found = self._read(path, layers, str(wave.device))
        if found is not None:
            return found
        answer = self.ask(wave)
        check_finite(
            ((f"hidden state {number}", state) for number, state in answer.items()),
            f"{self.directory}: an utterance of {len(wave)} samples",
        )
        if not self._full:
            states = {str(n): state.cpu() for n, state in answer.items()}
            try:
                write_file(path, lambda temporary: save_file(states, temporary))
            except Exception as error:  # safetensors has its own class for a failed write
                self._full = True  # go on without, since the cache is only for speed
                logging.warning(f"{self.directory}: hidden states are not cached any more: {error}")
        return answer

    def _read(self, path: Path, layers: Collection[int], device: str) -> dict[int, Tensor] | None:
        """What a file holds, None where there is none that can be used: it is made again."""
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt", device=device) as file:
                found = {number: file.get_tensor(str(number)) for number in layers}
        except (SafetensorError, OSError) as error:
            logging.warning(f"{path}: damaged, made again: {error}")
            return None
        if all(bool(state.isfinite().all()) for state in found.values()):
            return found
        logging.warning(f"{path}: has NaN or infinite values, made again")
        return None


class TeacherCache(StateCache):
    """A teacher's hidden states, in half precision and back in float32.

    An utterance takes 2 (L + 1) T' D bytes for (T', D) hidden states of L layers (5.8 MB for 30 s
    of Whisper tiny).
    """

    def __init__(self, directory: str | Path, teacher: Teacher, full_window: bool):
        super().__init__(directory, teacher.encoder, full_window, teacher.dtype)
        self.teacher = teacher

    def one(self, wave: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
        return {number: state.float() for number, state in super().one(wave, layers).items()}

    def ask(self, wave: Tensor) -> dict[int, Tensor]:
        inputs = self.encoder.prepare(wave[None], torch.tensor([len(wave)]), self.full_window)
        # All states, so that trainings which compare other layers find theirs, too
        states = self.teacher(inputs, range(self.encoder.num_layers + 1))
        answer = {}
        for number, state in states.items():
            fits = float(state.abs().max()) < LARGEST_HALF
            answer[number] = (state[0].half() if fits else state[0]).contiguous()
        return answer


class FeatureCache(StateCache):
    """The features of a frozen encoder that a probe sees, in full precision.

    Of a pre-norm model the last state has been through the final norm, and frames of padding are
    left out, so that a probe learns the same with and without the cache. Only models with group
    normalisation (the Base models) hear the padding of a batch, and here there is none. An
    utterance takes `bytes_of` its length. The encoder is frozen here.
    """

    def __init__(self, directory: str | Path, encoder: SpeechEncoder, full_window: bool):
        encoder.eval().requires_grad_(False)
        super().__init__(directory, encoder, full_window, kind=b"features")

    def features(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """As `SpeechEncoderOutput.features`, zero in the padding, of what `padded` takes."""
        states, frames = self.padded(speech, lengths, range(self.encoder.num_layers + 1))
        return list(states.values()), frames

    @torch.no_grad()
    def ask(self, wave: Tensor) -> dict[int, Tensor]:
        length = torch.tensor([len(wave)], device=wave.device)
        states, _ = self.encoder(wave[None], length, full_window=self.full_window).features()
        return {n: state[0].contiguous() for n, state in enumerate(states)}


def bytes_of(encoder: SpeechEncoder, samples: int) -> int:
    """Bytes on disk that a `FeatureCache` needs for so many samples: 4 (L + 1) T' D, nearly."""
    frames = samples // encoder.samples_per_frame
    return 4 * (encoder.num_layers + 1) * frames * encoder.hidden_size
