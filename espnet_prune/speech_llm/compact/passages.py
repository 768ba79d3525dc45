"""Text to speak, written by a small language model: any amount, free of others' rights.

The passages train a speech language model; none of them comes from a test set. A passage is drawn
by its number and a seed, so that a stopped run continues and gives the same text.
"""

from __future__ import annotations

import functools
import json
import math
import random
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from espnet_prune.data.normalize import spoken_sentences
from espnet_prune.data.sir.questions import located
from espnet_prune.files.growing import go_on, grow
from espnet_prune.files.reading import package_table, parse_json, read_lines
from espnet_prune.files.writing import write_text
from espnet_prune.speech_llm.compact.model import load_language_model

PLAIN = "Use plain words and short sentences. No lists, no titles, no stage directions, no digits."
#: seconds of speech of an average passage of SmolLM2-135M-Instruct, empty ones included
SECONDS_A_PASSAGE = 30.0
#: of the longest passage
TOKENS = 200


@functools.cache
def topics() -> dict[str, list[str]]:
    """Forms, subjects and names of people, see passages.yaml."""
    return package_table(__package__, "passages.yaml")


def prompt(number: int, seed: int) -> str:
    """What the language model is asked for passage `number`."""
    draw = random.Random(f"{seed} {number}")
    form, subject = draw.choice(topics()["forms"]), draw.choice(topics()["subjects"])
    name, other = draw.sample(topics()["names"], 2)
    return f"Write {form}, about {subject}. {name} and {other} come up in it. {PLAIN}"


def read_passages(path: Path) -> list[list[str]]:
    """Lists of sentences from a file with a JSON list a line; empty lists are unusable passages.
    ValueError: a line is not a list of sentences."""
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        with located(f"{path}: line {number}"):
            rows.append(parse_json(line))
            if not isinstance(rows[-1], list) or not all(isinstance(s, str) for s in rows[-1]):
                raise ValueError("not a list of sentences")
    return rows


@torch.inference_mode()
def write_passages(
    model: Any, tokenizer: Any, passages: int, path: Path, seed: int = 0, batch: int = 64
) -> list[list[str]]:
    """Have a causal language model of `transformers` write passages, a JSON list of sentences a
    line; those without three good sentences are empty lists.

    What an earlier, stopped run has written is kept, beside the file (`.part`).
    """
    if path.is_file():
        done = read_passages(path)
        if len(done) == passages:
            return done
    part = path.with_name(f"{path.name}.part")
    # Batch by batch: a batch has one generator
    batches = go_on(part, {"passages": passages, "seed": seed, "batch": batch, "tokens": TOKENS})
    done = [row for rows in batches for row in rows]
    tokenizer.padding_side = "left"
    for start in tqdm(range(len(done), passages, batch), path.name, mininterval=2):
        numbers = range(start, min(start + batch, passages))
        chats = [[{"role": "user", "content": prompt(n, seed)}] for n in numbers]
        way = {"tokenize": False, "add_generation_prompt": True}
        texts = [tokenizer.apply_chat_template(chat, **way) for chat in chats]
        inputs = tokenizer(texts, return_tensors="pt", padding=True).to(model.device)
        torch.manual_seed(seed * 1_000_003 + start)
        output = model.generate(
            **inputs,
            max_new_tokens=TOKENS,
            do_sample=True,
            temperature=0.9,
            top_k=50,
            no_repeat_ngram_size=5,  # a small model falls into loops
            repetition_penalty=1.1,
        )
        replies = output[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(replies, skip_special_tokens=True)
        rows = [row if len(row) >= 3 else [] for row in map(spoken_sentences, texts)]
        grow(part, [rows])
        done += rows
    write_text(path, "".join(json.dumps(row) + "\n" for row in done))
    part.unlink()
    return done


def write_hours(
    language_model: Path, hours: float, held_out: int, output: Path, seed: int, ngpu: int
) -> str:
    """Have the chat model of a directory write passages for so many hours, and `held_out` more.

    Returns JSON of how many passages, good ones and words there are (ValueError: a number out of
    its range).
    """
    if hours <= 0 or held_out < 2:
        raise ValueError("--hours has to be positive, and --held_out 2 or more")
    lm, tokenizer = load_language_model(language_model)
    lm.to("cuda" if ngpu else "cpu", torch.bfloat16)  # three times faster, on CPUs, too
    number = held_out + math.ceil(hours * 3600 / SECONDS_A_PASSAGE)
    passages = write_passages(lm, tokenizer, number, output, seed)
    words = sum(len(sentence.split()) for passage in passages for sentence in passage)
    good = sum(map(bool, passages))
    return json.dumps({"passages": len(passages), "good": good, "words": words})
