"""Give the windows of a data directory to a frozen encoder, once, and write what training reads.

Into the output directory go feats/ID.npy, (T, D) in float16 at 25 Hz; ctc/ with feats.scp,
feats_shape and words; lora/ with recordings of some windows each, feats.scp, feats_shape, prompt
and answer. Windows that an earlier run has done with the same encoder are kept.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from espnet_prune.cli import errors as cli
from espnet_prune.data.audio import check_speech, read_speech
from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.files.writing import write_text
from espnet_prune.speech_llm.compact.model import DTYPES, Compact, computing_dtype, encode_packed
from espnet_prune.speech_llm.compact.windows import write_frames, write_recordings
from espnet_prune.structured import SpeechEncoder, load_encoder

#: windows that are read at once and share windows of the encoder
BATCH = 16


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--encoder", type=Path, required=True, help="directory of a dense or pruned encoder")
    add("--data_dir", type=Path, required=True, help="with wav.scp, text, words and questions")
    add("--output_dir", type=Path, required=True, help="directory to write")
    add("--seconds", type=float, default=50.0, help="of the longest recording for LoRA")
    add("--seed", type=int, default=0, help="of the recordings' lengths")
    add(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="the encoder computes in; auto: bfloat16 where that is fast",
    )
    add("--ngpu", type=int, default=0, help="0: on the CPU")
    return parser


def fingerprint(encoder: SpeechEncoder) -> str:
    """A digest of an encoder's structure and weights."""
    digest = hashlib.blake2b(encoder.config.to_json_string().encode(), digest_size=16)
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def encode_all(
    encoder: SpeechEncoder, scp: dict[str, str], target: Path, dtype: torch.dtype
) -> None:
    """Write target/ID.npy of every recording, unless it is there and not older than the audio.

    Args:
        dtype: in bfloat16 features differ by 1% of their size, where training adds 10% of noise.
    Raises:
        ValueError: the directory has features of another encoder.
    """
    target.mkdir(parents=True, exist_ok=True)
    record, made_by = target / "encoder", fingerprint(encoder)
    if record.is_file() and record.read_text().strip() != made_by:
        raise ValueError(f"{target}: has features of another encoder: remove it")
    write_text(record, made_by + "\n")
    todo = [
        (target / f"{name}.npy", Path(path))
        for name, path in scp.items()
        if not _is_newer(target / f"{name}.npy", Path(path))
    ]
    for start in tqdm(range(0, len(todo), BATCH), f"encode {target.parent.name}", mininterval=2):
        batch, waves = todo[start : start + BATCH], []
        for _, source in batch:
            samples, rate = read_speech(source)
            check_speech(samples[:, 0], rate, source, fs=encoder.sampling_rate)
            waves.append(samples[:, 0])
        with torch.autocast(encoder.device.type, dtype, enabled=dtype != torch.float32):
            rows = encode_packed(encoder, waves)
        for (path, _), row in zip(batch, rows, strict=True):
            write_frames(path, row.float().cpu().numpy().astype(np.float16))


def _is_newer(path: Path, source: Path) -> bool:
    try:
        return path.stat().st_mtime >= source.stat().st_mtime
    except FileNotFoundError:
        return False


def run(args: argparse.Namespace) -> None:
    most = int(args.seconds * Compact.frame_tokens)
    if most < 1:
        raise ValueError(f"--seconds is {args.seconds:g}, too short for a frame")
    encoder = load_encoder(args.encoder).eval()
    if args.ngpu:
        encoder.to("cuda")
    scp, folder = read_table(args.data_dir / "wav.scp"), args.output_dir / "feats"
    encode_all(encoder, scp, folder, computing_dtype(args.dtype, encoder.device))
    feats = {name: folder / f"{name}.npy" for name in scp}
    shapes = {n: np.load(f, mmap_mode="r", allow_pickle=False).shape for n, f in feats.items()}
    written = {name: ",".join(map(str, shape)) for name, shape in shapes.items()}
    # Words that stand for no sound are no target
    words = {name: text for name, text in read_table(args.data_dir / "words").items() if text}
    for table, values in (("words", words), ("feats_shape", written), ("feats.scp", feats)):
        write_table(args.output_dir / "ctc" / table, {name: values[name] for name in words})
    sizes = {name: shape[0] for name, shape in shapes.items()}
    target = args.output_dir / "lora"
    rows, texts = write_recordings(args.data_dir, feats, sizes, target, most, args.seed)
    seconds = sum(sizes.values()) / Compact.frame_tokens
    print(
        f"{args.output_dir}: {len(scp)} windows, {seconds / 3600:.2f} h; "
        f"for LoRA {rows} recordings, {texts} texts"
    )


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
