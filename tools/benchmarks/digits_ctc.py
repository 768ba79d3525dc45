"""Errors of a small Wav2Vec2ForCTC on spoken digits, dense and with 40% of its encoder pruned.

The model is trained from scratch on the Free Spoken Digit Dataset ({digit}_{speaker}_{index}.wav)
without one speaker, whose recordings are one test set; the authors' test recordings of the others
are the other. `espnet_prune.prune` sees the training recordings, without their texts, and trains
nothing. All transcripts are those of `transformers.pipeline`. What is finished in the working
directory is not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path

import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import espnet_prune
from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import whole
from espnet_prune.data.audio import SAMPLING_RATE, at_rate, read_speech
from espnet_prune.data.corpora.fsdd import DIGITS, TEST, read_corpus
from espnet_prune.evaluate.metrics.error_rate import count_errors, error_rate, error_rate_difference
from espnet_prune.evaluate.report import table, with_interval
from espnet_prune.files.writing import write_text
from espnet_prune.structured.encoder_directory import SUMMARY, written_beside

HELD_OUT, BATCH, RATE = "nicolas", 32, 2e-3
LETTERS = ("<pad>", "|", "<unk>", *sorted({letter for word in DIGITS for letter in word}))
SIZES = {
    **{"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"intermediate_size": 256, "conv_dim": (48, 48, 48), "conv_stride": (20, 8, 2)},
    **{"conv_kernel": (40, 16, 4), "num_conv_pos_embeddings": 16},
    **{"num_conv_pos_embedding_groups": 4, "feat_extract_norm": "layer", "conv_bias": True},
    **{"do_stable_layer_norm": True, "vocab_size": len(LETTERS), "pad_token_id": 0},
    **{"layerdrop": 0.0, "mask_time_prob": 0.0},
    **{"ctc_loss_reduction": "mean", "ctc_zero_infinity": True},
}

#: waveforms (T,) at 16 kHz, and what is said in them
Spoken = list[tuple[Tensor, str]]


def read(corpus: Path) -> dict[str, Spoken]:
    """Training set, and test sets by their titles."""
    sets: dict[str, Spoken] = {"train": [], "seen speakers": [], "unseen speaker": []}
    for each, index in read_corpus(corpus):
        seen = "seen speakers" if index in TEST else "train"
        name = "unseen speaker" if each.speaker == HELD_OUT else seen
        samples = at_rate(*read_speech(each.path), each.path, SAMPLING_RATE)
        sets[name].append((torch.from_numpy(samples), each.text))
    return sets


def processor(folder: Path) -> transformers.Wav2Vec2Processor:
    """A letter for each output; needs a folder to write its vocabulary to."""
    file = folder / "letters.json"
    write_text(file, json.dumps({letter: number for number, letter in enumerate(LETTERS)}))
    words = {"unk_token": "<unk>", "pad_token": "<pad>", "word_delimiter_token": "|"}
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(file), **words)
    file.unlink()
    extract = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return transformers.Wav2Vec2Processor(extract, tokenizer)


def train(spoken: Spoken, updates: int, output_dir: Path) -> None:
    """Train the model from scratch with CTC, and write it with its processor."""
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**SIZES)).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, updates + 1, pct_start=0.1)
    draw, losses = random.Random(0), []
    spoken = sorted(spoken, key=lambda each: len(each[0]))
    with written_beside(output_dir) as folder:
        prepare = processor(folder)
        for update in range(updates):
            first = draw.randrange(max(1, len(spoken) - BATCH + 1))  # such as have one length
            speech, texts = zip(*spoken[first : first + BATCH], strict=True)
            waves, options = [each.numpy() for each in speech], {"return_tensors": "pt"}
            given = prepare(waves, sampling_rate=SAMPLING_RATE, padding=True, **options)
            labels = [torch.tensor(prepare.tokenizer(text).input_ids) for text in texts]
            loss = model(
                given.input_values,
                attention_mask=given.attention_mask,
                labels=pad_sequence(labels, batch_first=True, padding_value=-100),
            ).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            if update % 50 == 49:
                print(f"update {update + 1}: loss {sum(losses[-50:]) / 50:.3f}", flush=True)
        model.save_pretrained(folder)
        prepare.save_pretrained(folder)


def transcripts(model: Path, spoken: Spoken) -> list[str]:
    """What `transformers.pipeline` hears with the model of a directory."""
    asr = transformers.pipeline("automatic-speech-recognition", model=str(model))
    return [asr(speech.numpy())["text"] for speech, _ in spoken]


def main(args: argparse.Namespace) -> None:
    sets = read(args.corpus)
    dense, pruned = args.work_dir / "dense", args.work_dir / "pruned"
    if not dense.exists():
        train(sets["train"], args.updates, dense)
    if not pruned.exists():
        espnet_prune.prune(dense, [wave for wave, _ in sets["train"]], args.target, pruned)
    size = json.loads((pruned / SUMMARY).read_text())
    titles = [title for title in sets if title != "train"]
    numbers = [f"{title} ({len(sets[title])})" for title in titles]
    units = {"word": "WER", "char": "CER"}
    heads = [f"{rate} %, {each}" for each, rate in itertools.product(numbers, units.values())]
    rows = {
        "dense": [f"{size['dense_parameters'] / 1e6:.3f}"],
        "pruned": [f"{size['parameters'] / 1e6:.3f}"],
        "pruned minus dense, paired": [""],
    }
    for title in titles:
        said = [text for _, text in sets[title]]
        heard = [transcripts(model, sets[title]) for model in (dense, pruned)]
        for unit in units:
            counts = [count_errors(said, each, unit) for each in heard]
            for name, each in zip(rows, counts, strict=False):
                rate = error_rate(each)
                rows[name].append(with_interval(rate.rate, rate.low, rate.high))
            more = error_rate_difference(*counts)
            cell = with_interval(more.difference, more.low, more.high, sign="+")
            rows["pruned minus dense, paired"].append(cell)
    print(table([["model", "encoder (M)", *heads], *([name, *row] for name, row in rows.items())]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder of the recordings")
    parser.add_argument("work_dir", type=Path, help="directory for the models")
    text = "updates of the training (default: 800)"
    parser.add_argument("--updates", type=whole(1), default=800, help=text)
    text = "share of the encoder's parameters to remove (default: 0.4)"
    parser.add_argument("--target", type=float, default=0.4, help=text)
    cli.run(main, parser)
