"""Use the installed package in the current directory, as `tools/test_wheel.sh` calls it.

A tiny random Whisper is pruned by the public call and by the command, and is then the frontend of a
stock `espnet2.bin.asr_train`. Only what the base installation has is used.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml
from transformers import WhisperConfig, WhisperModel

import espnet_prune

HERE = Path.cwd()
TRAINING = {
    "frontend": "pruned_ssl",
    "frontend_conf": {"model": "pruned", "full_window": False},
    "encoder": "transformer",
    "encoder_conf": {"output_size": 8, "attention_heads": 2, "num_blocks": 1},
    "model_conf": {"ctc_weight": 1.0},
    "normalize": None,
    "optim": "adam",
    "max_epoch": 1,
    "batch_type": "unsorted",
    "batch_size": 2,
    "num_workers": 0,
}


def make_model() -> None:
    config = WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        max_source_positions=50,
        vocab_size=60,
        pad_token_id=0,
    )
    WhisperModel(config).save_pretrained(HERE / "dense")


def make_data() -> None:
    """Four utterances of noise in a data directory, and a list of tokens."""
    data = HERE / "data"
    (data / "audio").mkdir(parents=True)
    rows: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2num_samples": []}
    for number in range(4):
        samples = np.random.default_rng(number).normal(0, 0.1, 8000 + 800 * number)
        file = data / "audio" / f"{number}.wav"
        soundfile.write(file, samples, 16000)
        for name, value in (("wav.scp", file), ("text", "ab"), ("utt2num_samples", len(samples))):
            rows[name].append(f"utt{number} {value}\n")
    for name, lines in rows.items():
        (data / name).write_text("".join(lines))
    (HERE / "tokens.txt").write_text("<blank>\n<unk>\na\nb\n<sos/eos>\n")


def share_removed(directory: str) -> float:
    sizes = [
        sum(p.numel() for p in espnet_prune.load_encoder(name).parameters())
        for name in ("dense", directory)
    ]
    return 1 - sizes[1] / sizes[0]


def main() -> None:
    make_model()
    make_data()
    short = {"updates": 20, "distill_updates": 10}
    encoder = espnet_prune.prune("dense", "data/audio", target=0.5, output_dir="pruned", **short)
    states = encoder(torch.randn(1, 16000), torch.tensor([16000]), full_window=False)
    assert states.last_hidden_state.shape[-1] == 16
    command = ["espnet-prune", "encoder", "prune", "dense", "data/audio", "--output_dir", "again"]
    subprocess.run([*command, "--updates", "20", "--distill_updates", "10"], check=True)
    for directory in ("pruned", "again"):
        share = share_removed(directory)
        print(f"{directory}: {share:.1%} of the parameters are removed")
        assert abs(share - 0.5) < 0.1

    (HERE / "train.yaml").write_text(yaml.safe_dump(TRAINING))
    train = [sys.executable, "-m", "espnet_prune.plugin.run", "espnet2.bin.asr_train"]
    train += ["--config", "train.yaml", "--output_dir", "exp", "--token_type", "char"]
    train += ["--token_list", "tokens.txt", "--use_preprocessor", "true"]
    for part in ("train", "valid"):
        train += [f"--{part}_data_path_and_name_and_type", "data/wav.scp,speech,sound"]
        train += [f"--{part}_data_path_and_name_and_type", "data/text,text,text"]
        train += [f"--{part}_shape_file", "data/utt2num_samples"]
    subprocess.run(train, check=True)
    assert (HERE / "exp" / "1epoch.pth").is_file()
    assert yaml.safe_load((HERE / "exp" / "config.yaml").read_text())["frontend"] == "pruned_ssl"


if __name__ == "__main__":
    main()
