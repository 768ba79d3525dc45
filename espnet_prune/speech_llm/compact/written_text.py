"""Text to speak, written by a small language model: as much as is wanted, and nobody's own.

For training a speech language model: passages of all kinds in plain words, none of which comes from
a test set. A passage is drawn by its number and a seed, so that a stopped run goes on where it was
and gives the same.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from espnet_prune.data.text import has_unclear_number, prompt_transcript

FORMS = (
    "a part of a lecture",
    "a talk between two friends",
    "what people say in a short meeting",
    "a voice message to a colleague",
    "a local news item",
    "a guide's talk to visitors",
    "a short story for the radio",
    "an interview with an expert",
)
SUBJECTS = tuple(
    """
    farming|cooking|a school|a hospital|a museum|a theatre|trains|ships|bicycles|gardens|weather|
    birds|dogs|forests|mountains|rivers|the sea|old books|painting|music|dance|sports|chess|
    computers|telephones|maps|bridges|houses|furniture|clothes|markets|banks|taxes|insurance|
    elections|a law court|the police|firefighters|teachers|nurses|engineers|sleep|food and health|
    running|sweets|
    coffee|bread|cheese|water supply|electric power|glass|wood|metals|stars and planets|rockets|
    rocks|earthquakes|insects|fish|languages|letters and mail|photography|film|toys|holidays|
    weddings|a new office|hiring people|a budget|a late delivery|a broken machine|a long journey|
    moving house|neighbours|a lost key|a birthday|saving money|learning to drive|
    the history of a town
    """.replace("\n", " ").split("|")
)
PLAIN = "Use plain words and short sentences. No lists, no titles, no stage directions, no digits."
_SPEAKER = re.compile(r"^[\W_]*[A-Z][\w .'-]{0,25}:\s*")


def prompt(number: int, seed: int) -> str:
    """What the language model is asked for passage `number`."""
    draw = random.Random(f"{seed} {number}")
    form, subject = draw.choice(FORMS), " ".join(draw.choice(SUBJECTS).split())
    name, other = draw.sample(NAMES, 2)
    return f"Write {form}, about {subject}. {name} and {other} come up in it. {PLAIN}"


NAMES = tuple(
    """
    Anna Peter Maria Thomas Clara David Helen Martin Laura Simon Nina Robert Alice Victor Emma Oscar
    Julia Henry Rosa Felix Irene George Sara Paul Ellen Frank Lucy Walter Diana Louis
    """.split()
)


def spoken_sentences(text: str, least: int = 4, most: int = 28) -> list[str]:
    """The sentences of a text that a voice can read and that have `least` to `most` words.

    Names of speakers before a colon and markup are cut off; what has digits that are unclear when
    spoken, or letters outside ASCII, is left out.
    """
    found = []
    for line in text.replace("*", "").replace("_", " ").splitlines():
        line = _SPEAKER.sub("", line.strip()).strip('"“” ')
        line = line.replace("’", "'").replace("“", "").replace("”", "").replace("—", ", ")
        for sentence in re.split(r"(?<=[.!?])\s+", line):
            sentence = sentence.strip('" ')
            if not sentence.endswith((".", "!", "?")) or not sentence.isascii():
                continue
            if has_unclear_number(sentence) or re.search(r"[\[\](){}<>#@/\\|=+~^]", sentence):
                continue
            if least <= len(prompt_transcript(sentence).split()) <= most:
                found.append(sentence)
    return found


@torch.inference_mode()
def write_passages(
    model, tokenizer, passages: int, path: Path, seed: int = 0, batch: int = 64, tokens: int = 200
) -> list[list[str]]:
    """Have a chat model write passages, a JSON list of sentences a line.

    Args:
        model: causal language model of `transformers`.
        passages: how many are asked for; those without three good sentences are empty lists.
        path: file to write; what an earlier, stopped run has written is kept (beside it, `.part`).
        tokens: longest passage.
    """
    part = path.with_name(f"{path.name}.part")
    if path.is_file():
        done = [json.loads(line) for line in path.read_text().splitlines()]
        if len(done) == passages:
            return done
    lines = part.read_text().splitlines(keepends=True) if part.is_file() else []
    done = [json.loads(line) for line in lines if line.endswith("\n")]
    done = done[: len(done) - len(done) % batch]  # whole batches: a batch has one generator
    path.parent.mkdir(parents=True, exist_ok=True)
    part.write_text("".join(json.dumps(sentences) + "\n" for sentences in done))
    tokenizer.padding_side = "left"
    with part.open("a") as file, tqdm(total=passages, initial=len(done), desc=path.name) as bar:
        for start in range(len(done), passages, batch):
            numbers = range(start, min(start + batch, passages))
            chats = [[{"role": "user", "content": prompt(n, seed)}] for n in numbers]
            texts = [
                tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
                for chat in chats
            ]
            inputs = tokenizer(texts, return_tensors="pt", padding=True).to(model.device)
            torch.manual_seed(seed * 1_000_003 + start)
            output = model.generate(
                **inputs,
                max_new_tokens=tokens,
                do_sample=True,
                temperature=0.9,
                top_k=50,
                no_repeat_ngram_size=5,  # a small model falls into loops
                repetition_penalty=1.1,
            )
            replies = output[:, inputs["input_ids"].shape[1] :]
            for reply in tokenizer.batch_decode(replies, skip_special_tokens=True):
                sentences = spoken_sentences(reply)
                sentences = sentences if len(sentences) >= 3 else []
                file.write(json.dumps(sentences) + "\n")
                done.append(sentences)
            file.flush()
            bar.update(len(numbers))
    part.replace(path)
    return done


def windows(passages: list[list[str]], seconds: float, words_a_second: float = 2.8) -> Iterator:
    """Consecutive sentences of a passage that take about `seconds` to speak."""
    most = seconds * words_a_second
    for sentences in passages:
        window: list[str] = []
        words = 0
        for sentence in sentences:
            count = len(sentence.split())
            if window and words + count > most:
                yield window
                window, words = [], 0
            window.append(sentence)
            words += count
        if window:
            yield window
