"""Tables of a grid whose accuracies and recalls are known by construction."""

import dataclasses
import json

import pytest

from espnet_prune.cli import main
from espnet_prune.data.data_dir import write_table
from espnet_prune.data.sir.directory import data_mark
from espnet_prune.evaluate.sir.answers import Answer, AnswerFile
from espnet_prune.evaluate.sir.conditions import NOTHING, TRANSCRIPT, WHOLE, Condition, grid
from test.espnet_prune.evaluate.sir.stand_in import CHOICES

HEADER = {
    "speech_llm": "x",
    "token_pruner_conf": {},
    "prompt": "{question}",
    "seed": 0,
    "frame_tokens": 25,
}
ITEMS = 8
#: how many of the first items are right
RIGHT = {WHOLE: 7, NOTHING: 2, TRANSCRIPT: 8}
BEST, WORST = (Condition(strategy=s, rate=0.2) for s in ("speechprune", "rap"))


def answer(n, condition):
    right = n < RIGHT.get(condition, {"speechprune": 6, "rap": 2}.get(condition.strategy, 4))
    if condition.input == "speech":
        tokens = 200
        kept = range(25, 50) if condition == BEST else range(0, 200, 5)
    else:
        tokens, kept = 0, ()
    place = n % 2  # the right choice stands in the first or second place, never in the third
    scores = [-2.0, -2.0, -3.0]
    scores[place if right else 2] = -1.0
    return Answer(f"i{n}", condition, 8.0, tokens, tuple(kept), (0, 1, 2), tuple(scores), place)


@pytest.fixture
def folders(tmp_path):
    data = tmp_path / "data"
    ids = [f"i{n}" for n in range(ITEMS)]
    question = json.dumps({"question": "q", "choices": CHOICES, "answer": 2})
    write_table(data / "questions", dict.fromkeys(ids, question))
    key = json.dumps({"sentences": [], "key": [1.0, 3.0]})
    write_table(data / "sentences", dict.fromkeys(ids, key))
    header = {**HEADER, "data_dir": data_mark(data)}
    conditions = grid(["rap", "speechprune"], [0.2, 0.8])
    file = AnswerFile(tmp_path / "answers" / "answers.1.jsonl", header)
    file.add([answer(n, condition) for n in range(ITEMS) for condition in conditions])
    return data, tmp_path / "answers"


def score(folders, out, *options):
    data, answers = folders
    options = list(map(str, options))
    paths = ["--data_dir", str(data), "--answers", str(answers), "--output_dir", str(out)]
    main(["sir", "score", *paths, *options])
    return (out / "RESULTS.md").read_text(), json.loads((out / "scores.json").read_text())


def test_tables_numbers_and_plots(folders, tmp_path):
    text, scores = score(folders, tmp_path / "out", "--title", "Tiny", "--command", "./run.sh")
    assert text.startswith("# Tiny\n") and "`./run.sh`" in text and "## Environment" in text
    assert scores["items"] == 8 and scores["chance"] == pytest.approx(1 / 3)
    # the shuffled right letter is A in four and B in four; in the file it is always C
    assert scores["majority_letter"]["value"] == 0.5
    assert scores["majority_letter_of_the_file"]["value"] == 1.0
    found = scores["conditions"]
    assert {name: found[name]["accuracy"]["value"] for name in ("none", "nothing", "rap 0.8")} == {
        "none": 7 / 8,
        "nothing": 2 / 8,
        "rap 0.8": 2 / 8,
    }
    # the key are tokens 25 to 74: all of 25 to 49 kept, or every fifth
    assert found["speechprune 0.2"]["evidence_recall"]["value"] == 0.5
    assert found["rap 0.2"]["evidence_recall"]["value"] == pytest.approx(0.2)
    assert "evidence_recall" not in found["transcript"]
    ratio = found["speechprune 0.2"]["recall_against_rap"]
    assert [ratio[k] for k in ("value", "low", "high")] == pytest.approx([2.5] * 3)
    assert "| speechprune | 2.50 [2.50, 2.50] | 1.00 [1.00, 1.00] |" in text
    assert "recall_against_rap" not in found["rap 0.2"]
    against = found["rap 0.2"]["against"]
    assert set(against) == {"whole recording", "first 30 s", "speechprune, same rate"}
    # rap loses four of four to speechprune: 2 / 2^4
    same = against["speechprune, same rate"]
    assert (same["gained"], same["lost"], same["p"]) == (0, 4, pytest.approx(0.125))
    assert same["difference"]["value"] == pytest.approx(-0.5)
    row = next(line for line in text.splitlines() if line.startswith("| rap "))
    assert row.count("25.0 [") == 2
    for line in ("always A (shuffled choices)", "always C (order of the file)", "no audio"):
        assert line in text
    for name in ("rates.png", "strip.png"):
        assert (tmp_path / "out" / "images" / name).stat().st_size > 5000


def test_what_is_likely_by_itself_counts_once(folders, tmp_path):
    """Without audio the third place is the likeliest for items 2 to 7 (see RIGHT): audio which says
    the same adds nothing to it."""
    text, scores = score(folders, tmp_path / "out")
    found = scores["conditions"]
    # what is wrong has no gain anywhere (the first place is taken, right for even items), what is
    # right from item 2 on gains most, and items 0 and 1 are right without audio, too
    pmi = {name: found[name]["pmi"]["accuracy"]["value"] for name in ("transcript", "rap 0.2")}
    assert pmi == {"transcript": 7 / 8, "rap 0.2": 4 / 8}
    assert "pmi" not in found["nothing"]
    assert set(found["rap 0.2"]["pmi"]["against"]) == set(found["rap 0.2"]["against"])
    lines = text.splitlines()
    assert "## Accuracy by PMI (%)" in lines
    row = next(line for line in lines if line.startswith("| no audio "))
    assert [cell.strip() for cell in row.split("|")[3:]] == ["", ""]
    row = next(line for line in lines if line.startswith("| transcript "))
    assert "100.0 [" in row and "87.5 [" in row


def test_choices_in_another_order_than_without_audio(folders, tmp_path, capsys):
    file = folders[1] / "answers.1.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if '"input": "nothing"' in line)
    lines[place] = lines[place].replace('"order": [0, 1, 2]', '"order": [2, 1, 0]')
    file.write_text("".join(lines))
    with pytest.raises(SystemExit):
        score(folders, tmp_path / "out")
    assert "i0: its choices stand in the order [0, 1, 2], without audio" in capsys.readouterr().err


def test_figure_that_another_stage_has_left(folders, tmp_path):
    assert "tsne.png" not in score(folders, tmp_path / "out")[0]
    (tmp_path / "out" / "images" / "tsne.png").touch()
    assert "(images/tsne.png)" in score(folders, tmp_path / "out")[0]


def test_without_times_there_is_no_recall(folders, tmp_path):
    (folders[0] / "sentences").unlink()
    text, scores = score(folders, tmp_path / "out")
    assert "Evidence recall" not in text
    assert not any("evidence_recall" in c for c in scores["conditions"].values())


def test_word_error_rate_of_the_speech(folders, tmp_path):
    wer = {"rate": 0.05, "low": 0.04, "high": 0.061, "reference_length": 321}
    path = tmp_path / "wer.json"
    path.write_text(json.dumps({"utterances": 9, "systems": {"hyp": {"wer": wer}}}))
    text, _ = score(folders, tmp_path / "out", "--wer", str(path))
    assert "WER % of Whisper on the speech: 5.0 [4.0, 6.1] on 9 windows (321 words)" in text


def test_data_that_has_changed_since(folders, tmp_path, capsys):
    write_table(folders[0] / "utt2num_samples", {"i0": 16000})
    with pytest.raises(SystemExit):
        score(folders, tmp_path / "out")
    assert "the answers are to another state of" in capsys.readouterr().err


def test_a_window_that_is_not_30_s(folders, tmp_path):
    assert "| first 30 s " in score(folders, tmp_path / "out")[0]
    file = folders[1] / "answers.1.jsonl"
    header, *lines = file.read_text().splitlines(keepends=True)
    changed = json.dumps({**json.loads(header), "token_pruner_conf": {"window": 375}})
    file.write_text("".join([changed + "\n", *lines]))
    text, scores = score(folders, tmp_path / "out")
    assert "| first 375 tokens " in text and "first 30 s" not in text
    assert 'Options of all token pruners: `{"window": 375}`.' in text
    assert "first 375 tokens" in scores["conditions"]["rap 0.2"]["against"]


def test_half_of_the_answers(folders, tmp_path, capsys):
    file = folders[1] / "answers.1.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    for kept, message in (
        (lines[:-1], "condition 'speechprune 0.8' has 7 of 8 items, i7 is not among them"),
        (lines[: 1 + 4 * 8], "4 of 8 items are answered, i4 is not"),
        (lines[:1], "no answers in it"),
    ):
        file.write_text("".join(kept))
        with pytest.raises(SystemExit):
            score(folders, tmp_path / "out")
        assert message in capsys.readouterr().err


def by_letter(n, condition):
    """As `answer`, but said; the last item names no choice."""
    likely = answer(n, condition)
    words = f"The answer is {'ABC'[likely.chosen]}." if n < ITEMS - 1 else "I do not know."
    return dataclasses.replace(likely, scores=(), said=words)


@pytest.fixture
def letters(folders, tmp_path):
    """Answers to the same items by the protocol `letter`, under fewer conditions."""
    header = {**HEADER, "protocol": "letter", "prompt": "?", "data_dir": data_mark(folders[0])}
    file = AnswerFile(tmp_path / "letters" / "answers.1.jsonl", header)
    conditions = grid(["speechprune"], [0.2])
    file.add([by_letter(n, condition) for n in range(ITEMS) for condition in conditions])
    return tmp_path / "letters"


def test_protocols_side_by_side(folders, letters, tmp_path):
    text, scores = score(
        (folders[0], folders[1]), tmp_path / "out", "--answers", folders[1], letters
    )
    found = scores["conditions"]
    assert (
        found["none"]["accuracy"]["value"] == found["none"]["letter"]["accuracy"]["value"] == 7 / 8
    )
    # the last item of the transcript is right by likelihood, and says nothing
    transcript = found["transcript"]
    assert (transcript["accuracy"]["value"], transcript["letter"]["accuracy"]["value"]) == (
        1,
        7 / 8,
    )
    assert "letter" not in found["rap 0.2"] and "pmi" in found["rap 0.2"]
    assert "## Accuracy by letter (%)" in text and "saying none is wrong" in text
    header = next(line for line in text.splitlines() if "accuracy by PMI % [95%]" in line)
    assert "accuracy by letter % [95%]" in header
    assert set(scores["made_with"]) == {"likelihood", "letter"}


def test_letters_alone(folders, letters, tmp_path):
    text, scores = score((folders[0], letters), tmp_path / "out")
    assert set(scores["conditions"]["speechprune 0.2"]) == {
        "input", "strategy", "rate", "keep", "letter", "evidence_recall", "kept_tokens"
    }  # fmt: skip
    assert "## Accuracy (%)" not in text and "log-likelihood" not in text


def test_protocols_that_do_not_belong_together(folders, letters, tmp_path, capsys):
    file = letters / "answers.1.jsonl"
    before = file.read_text()

    def message(*answers):
        with pytest.raises(SystemExit):
            score(folders, tmp_path / "out", "--answers", *map(str, answers))
        return capsys.readouterr().err

    assert "the protocol is 'letter', as of another" in message(letters, letters)
    file.write_text(before.replace('"seed": 0', '"seed": 1', 1))
    assert "letters: was made with another seed than the first" in message(folders[1], letters)
    lines = [line for line in before.splitlines(keepends=True) if '"id": "i3"' not in line]
    file.write_text("".join(lines))
    assert "letters: i3 is answered by one protocol only" in message(folders[1], letters)
