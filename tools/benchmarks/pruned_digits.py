#!/usr/bin/env python3
"""Train a small `Wav2Vec2ForCTC` on spoken digits, prune it as a whole, and compare error rates.

Digits of FSDD (https://github.com/Jakobovski/free-spoken-digit-dataset, folder `recordings`) are
joined to strings of one to three; recordings 0 to 4 of each digit and speaker are for the test.

    python tools/benchmarks/pruned_digits.py FSDD --work /tmp/digits
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence

import espnet_prune
from espnet_prune.data.audio import at_rate, read_speech
from espnet_prune.evaluate.metrics.error_rate import ErrorRate, count_errors, error_rate

RATE = 16000
SIZES = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 384,
    "conv_dim": (64, 64, 64), "conv_stride": (40, 4, 2), "conv_kernel": (400, 8, 4),
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 8, "conv_bias": True,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True, "vocab_size": 13, "pad_token_id": 0,
    "mask_time_prob": 0.0, "hidden_dropout": 0.0, "attention_dropout": 0.0,
    "activation_dropout": 0.0, "feat_proj_dropout": 0.0, "layerdrop": 0.0,
    "ctc_loss_reduction": "mean",
}  # fmt: skip
TOKENS = {"<pad>": 0, "<unk>": 1, "|": 2, **{str(digit): 3 + digit for digit in range(10)}}
Recordings = list[tuple[int, np.ndarray]]


def read(folder: Path) -> tuple[dict[str, Recordings], dict[str, Recordings]]:
    """speaker -> (digit, waveform), for training and for the test."""
    parts: tuple[dict[str, Recordings], dict[str, Recordings]] = ({}, {})
    for file in sorted(folder.glob("*_*_*.wav")):
        digit, speaker, number = file.stem.split("_")
        samples, rate = read_speech(file)
        wave = at_rate(samples, rate, str(file), RATE, 0.05)
        parts[int(number) < 5].setdefault(speaker, []).append((int(digit), wave))
    return parts


def joined(recordings: dict[str, Recordings], rng: random.Random) -> tuple[torch.Tensor, list[int]]:
    """One to three digits of a speaker with pauses, of zero mean and unit variance."""
    of_one = recordings[rng.choice(sorted(recordings))]
    chosen = [rng.choice(of_one) for _ in range(rng.randint(1, 3))]
    pieces = [np.zeros(rng.randint(800, 2400), np.float32)]
    for _, wave in chosen:
        pieces += [wave, np.zeros(rng.randint(800, 2400), np.float32)]
    wave = torch.from_numpy(np.concatenate(pieces)) + 1e-4 * torch.randn(sum(map(len, pieces)))
    return (wave - wave.mean()) / (wave.std() + 1e-5), [digit for digit, _ in chosen]


@torch.no_grad()
def start_as_filterbank(weight: torch.Tensor) -> None:
    """Windowed cosines and sines of rising frequency: minutes are too short to find them."""
    channels, _, size = weight.shape
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (80, 7000))
    mel = torch.linspace(low, high, channels // 2)
    angles = 2 * torch.pi * 700 * (10 ** (mel / 2595) - 1)[:, None] * torch.arange(size) / RATE
    waves = torch.cat([angles.cos(), angles.sin()]) * torch.hann_window(size)
    weight.copy_((waves / waves.norm(dim=1, keepdim=True))[:, None])


def train(recordings: dict[str, Recordings], minutes: float) -> transformers.Wav2Vec2ForCTC:
    """For so many minutes of processor time."""
    rng = random.Random(0)
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**SIZES)).train()
    start_as_filterbank(model.wav2vec2.feature_extractor.conv_layers[0].conv.weight)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    begin = time.process_time()
    step, spent = 0, 0.0
    while spent < 60 * minutes:
        waves, labels = zip(*(joined(recordings, rng) for _ in range(16)), strict=True)
        lengths = torch.tensor([len(wave) for wave in waves])
        speech = pad_sequence(list(waves), batch_first=True)
        mask = (torch.arange(speech.shape[1])[None] < lengths[:, None]).long()
        tokens = pad_sequence([torch.tensor(d) + 3 for d in labels], True, padding_value=-100)
        loss = model(speech, attention_mask=mask, labels=tokens).loss
        spent = time.process_time() - begin
        rate = 1e-3 * min(1.0, (step + 1) / 50) * max(0.02, 1.0 - spent / (60 * minutes))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"update {step}, {spent:.0f} s, loss {loss.item():.3f}", flush=True)
        step += 1
    return model.eval()


def save(model: transformers.Wav2Vec2ForCTC, folder: Path) -> None:
    """With a processor, for pipelines."""
    model.save_pretrained(folder)
    (folder / "tokens.json").write_text(json.dumps(TOKENS))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(
        str(folder / "tokens.json"), pad_token="<pad>", unk_token="<unk>", bos_token=None,
        eos_token=None,
    )  # fmt: skip
    extract = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    transformers.Wav2Vec2Processor(extract, tokenizer).save_pretrained(folder)


def error(folder: Path, strings: list[tuple[torch.Tensor, list[int]]]) -> str:
    """Digit error rate in percent, by `transformers`' pipeline."""
    asr = transformers.pipeline("automatic-speech-recognition", model=str(folder))
    wanted = [" ".join(map(str, digits)) for _, digits in strings]
    found = [" ".join(asr(wave.numpy())["text"].replace(" ", "")) for wave, _ in strings]
    rate: ErrorRate = error_rate(count_errors(wanted, found))
    return f"{100 * rate.rate:.1f}% [{100 * rate.low:.1f}, {100 * rate.high:.1f}] of digits wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recordings", type=Path, help="folder of FSDD's WAV files")
    parser.add_argument("--work", type=Path, required=True, help="folder to write models to")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="of training, processor time (default: 8)"
    )
    parser.add_argument("--targets", nargs="+", type=float, default=[0.4, 0.6])
    args = parser.parse_args()
    learned, held_out = read(args.recordings)
    dense = args.work / "dense"
    if not (dense / "config.json").is_file():
        args.work.mkdir(parents=True, exist_ok=True)
        save(train(learned, args.minutes), dense)
    rng = random.Random(1)
    strings = [joined(held_out, rng) for _ in range(200)]
    audio = [0.05 * joined(learned, rng)[0].clamp(-20, 20) for _ in range(60)]
    print(f"dense: {error(dense, strings)}")
    for target in args.targets:
        for updates in (0, 150):
            folder = args.work / f"pruned_{target}_{updates}"
            espnet_prune.prune(dense, audio, target, folder, distill_updates=updates, device="cpu")
            print(f"{target:.0%} pruned, {updates} updates: {error(folder, strings)}")


if __name__ == "__main__":
    main()
