"""The chain on a tiny random speech LLM and four short items; killed and resumed."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from espnet_prune import cli
from espnet_prune.bin.sir_inference import main
from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.data.sir.questions import read_recordings, shuffled
from espnet_prune.evaluate.sir import inference
from espnet_prune.evaluate.sir.answers import AnswerFile, read_answers
from espnet_prune.evaluate.sir.conditions import FIRST_30_S, HEARD, NOTHING, WHOLE, Condition
from espnet_prune.evaluate.sir.inference import Settings, batches
from espnet_prune.speech_llm import Diva, Qwen2Audio, diva
from espnet_prune.speech_llm.compact.model import Compact
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.evaluate.sir.stand_in import (
    SECONDS,
    save_compact_llm,
    save_data_dir,
    save_speech_llm,
)
from test.espnet_prune.speech_llm.models import RATE, DivaModel

GRID = ["--strategies", "speechprune rap", "--rates", "0.2 0.8"]


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Options that name the tiny model and the items, by a config."""
    folder = tmp_path_factory.mktemp("sir")
    config = {
        "speech_llm": "qwen2_audio",
        "speech_llm_conf": {"model": str(save_speech_llm(folder / "model"))},
        "token_pruner": "speechprune",
        "token_pruner_conf": {"rate": 0.2, "window": 100},
    }
    (folder / "sir.yaml").write_text(yaml.safe_dump(config))
    data = save_data_dir(folder / "data")
    return ["--config", str(folder / "sir.yaml"), "--data_dir", str(data)]


@pytest.fixture
def grid_options(options, tmp_path):
    """The same for a grid, with another window."""
    config = yaml.safe_load(Path(options[1]).read_text())
    config["token_pruner_conf"] = {"window": 100, "seed": 1}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(config))
    return ["--config", str(tmp_path / "grid.yaml"), *options[2:], *GRID]


def fails(capsys, *options):
    with pytest.raises(SystemExit) as stop:
        main(list(options))
    assert stop.value.code == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def by_key(directory):
    return {(a.id, a.condition): a for a in read_answers(directory)[1]}


def assert_scores(llm, recording, answer, tokens, prune=None):
    """The answer's scores are those that the model gives to the tokens."""
    question = recording.question
    (scores,) = llm.score_choices(
        llm.prompts([tokens], [question.question], prune),
        [[question.choices[n] for n in answer.order]],
    )
    assert answer.scores == pytest.approx(scores.tolist(), abs=1e-4)


def test_one_condition_by_yaml(options, tmp_path):
    main([*options, "--output_dir", str(tmp_path)])
    header, answers = read_answers(tmp_path)
    assert header["frame_tokens"] == 25 and header["speech_llm"] == "qwen2_audio"
    assert [a.id for a in answers] == sorted(SECONDS)
    for answer in answers:
        tokens = round(25 * SECONDS[answer.id])
        assert abs(answer.audio_tokens - tokens) <= 1
        # 80% of the window, or of all where there is less
        assert len(answer.kept) == round(0.8 * min(100, answer.audio_tokens))
        assert answer.condition.name == "speechprune 0.2" and len(answer.scores) == 3


def test_killed_at_half_and_started_again_with_another_split(grid_options, tmp_path, monkeypatch):
    whole, half = tmp_path / "whole", tmp_path / "half"
    main([*grid_options, "--output_dir", str(whole)])
    expected = by_key(whole)
    assert len(expected) == 4 * (4 + 4)

    writes = []

    class Killed(AnswerFile):
        def add(self, answers):
            if len(writes) == 16:
                raise KeyboardInterrupt
            writes.append(len(answers))
            super().add(answers)

    with monkeypatch.context() as patch:
        patch.setattr(inference, "AnswerFile", Killed)
        with pytest.raises(KeyboardInterrupt):
            main([*grid_options, "--output_dir", str(half)])
    assert len(by_key(half)) == 16
    with (half / "answers.all.jsonl").open("a") as file:
        file.write('{"id": "c", "input": "spee')

    left = []
    original = AnswerFile.add
    monkeypatch.setattr(
        AnswerFile, "add", lambda self, answers: (left.extend(answers), original(self, answers))
    )
    for number, keys in enumerate(("ac", "bd"), 1):
        (tmp_path / f"{number}.keys").write_text("".join(f"{key}\n" for key in keys))
        key_file = ["--key_file", str(tmp_path / f"{number}.keys")]
        main([*grid_options, "--output_dir", str(half), *key_file])
    assert len(left) == 16  # nothing was computed twice
    found = by_key(half)
    assert found.keys() == expected.keys()
    for key, answer in found.items():
        assert (answer.kept, answer.order) == (expected[key].kept, expected[key].order)
        assert answer.scores == pytest.approx(expected[key].scores, abs=1e-4)


def test_a_batch_answers_as_singles(grid_options, tmp_path):
    main([*grid_options, "--output_dir", str(tmp_path / "1")])
    main([*grid_options, "--output_dir", str(tmp_path / "3"), "--batch_size", "3"])
    singles, batched = by_key(tmp_path / "1"), by_key(tmp_path / "3")
    assert singles.keys() == batched.keys()
    for key, answer in singles.items():
        assert answer.kept == batched[key].kept
        assert answer.scores == pytest.approx(batched[key].scores, abs=1e-3)


@torch.no_grad()
def test_what_the_model_s_own_recogniser_hears_is_answered_and_scored(options, tmp_path):
    config = {
        "speech_llm": "compact",
        "speech_llm_conf": {"model": str(save_compact_llm(tmp_path / "model"))},
        "token_pruner_conf": {"window": 40},
    }
    (tmp_path / "sir.yaml").write_text(yaml.safe_dump(config))
    out = ["--output_dir", str(tmp_path / "out")]
    grid = ["--strategies", "rap", "--rates", "0.5"]
    main(["--config", str(tmp_path / "sir.yaml"), *options[2:], *grid, *out])
    found = by_key(tmp_path / "out")
    assert len(found) == 4 * (5 + 1)
    llm = Compact.from_pretrained(tmp_path / "model")
    for recording in read_recordings(options[3]):
        _, words, spoken = llm.hear(recording.load(RATE), RATE)
        assert words
        tokens = llm.embed_text(f" {words}")
        answer = found[recording.id, HEARD]
        assert answer.audio_tokens == len(tokens)
        assert_scores(llm, recording, answer, tokens)
        whole = found[recording.id, WHOLE]
        assert whole.spoken == tuple(spoken.nonzero()[:, 0].tolist()) != ()
        assert answer.spoken is whole.words is None and answer.words == words
    cli.main(["sir", "score", *options[2:], "--answers", str(tmp_path / "out"), *out])
    results = (tmp_path / "out" / "RESULTS.md").read_text()
    # held against, and in the comparisons by likelihood and by PMI
    assert "The share of the key sentence's words that are kept." in results
    assert "WER % of the speech LLM's own recogniser: " in results
    assert results.count("| words of the model's own recogniser instead of audio |") == 3
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["conditions"]["heard"]
    right = sum(found[name, HEARD].right for name in "abcd")
    assert scores["accuracy"]["value"] == right / 4 and "evidence_recall" not in scores


@torch.no_grad()
def test_diva_s_tokens_are_not_in_time(options, tmp_path, monkeypatch):
    """Answers and scores as for the others, but no evidence recall."""
    model = DivaModel(seconds=30)
    monkeypatch.setattr(diva.AutoModel, "from_pretrained", lambda *args, **kwargs: model)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    conf = f"{{model: {tmp_path / 'model'}, trust_remote_code: true}}"
    (tmp_path / "sir.yaml").write_text(f"speech_llm: diva\nspeech_llm_conf: {conf}\n")
    out = ["--output_dir", str(tmp_path / "out")]
    grid = ["--strategies", "speechprune crop", "--rates", "0.8"]
    main(["--config", str(tmp_path / "sir.yaml"), *options[2:], *grid, *out])
    assert read_answers(tmp_path / "out")[0]["frame_tokens"] is None
    found = by_key(tmp_path / "out")
    llm = Diva(model)
    for recording in read_recordings(options[3]):
        answer = found[recording.id, Condition(strategy="speechprune", rate=0.8)]
        assert answer.audio_tokens == 448 and len(answer.kept) == round(0.2 * 448)
        audio = llm.hear(recording.load(RATE), RATE).tokens
        assert_scores(llm, recording, answer, audio, TokenPruner("speechprune", 0.8))
    cli.main(["sir", "score", *options[2:], "--answers", str(tmp_path / "out"), *out])
    results = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "| speechprune" in results and "vidence" not in results


@torch.no_grad()
def test_letters_are_generated_by_the_same_pruned_prompt(options, tmp_path, capsys):
    out = ["--output_dir", str(tmp_path / "out")]
    main([*options, *out, "--protocol", "letter"])
    header, answers = read_answers(tmp_path / "out")
    asked = "{question}\n{choices}\nAnswer with the letter of the right choice."
    assert (header["protocol"], header["prompt"]) == ("letter", asked)
    llm = Qwen2Audio.from_pretrained(header_model(options))
    for recording, answer in zip(read_recordings(options[3]), answers, strict=True):
        question = shuffled(recording.question, 0)
        choices = "\n".join(map("{}. {}".format, "ABC", question.choices))
        text = f"{question.question}\n{choices}\nAnswer with the letter of the right choice."
        audio = llm.hear(recording.load(RATE), RATE).tokens
        prune = TokenPruner("speechprune", 0.2, window=100)
        outcomes = llm.outcomes(prune, [audio], [question.question])
        (said,) = llm.generate(llm.prompts([audio], [text], outcomes=outcomes), 16)
        assert answer.said == said and answer.scores == ()
        assert answer.kept == tuple(outcomes[0].kept.tolist())
    main([*options, *out, "--protocol", "letter"])  # nothing is left to do
    assert "was made with another protocol, prompt" in fails(capsys, *options, *out)


def header_model(options):
    return yaml.safe_load(Path(options[1]).read_text())["speech_llm_conf"]["model"]


def test_audio_shorter_than_the_budget_stays_whole(options, tmp_path):
    (tmp_path / "key").write_text("b\n")
    conf = ["--token_pruner_conf", "{keep: 5000}", "--key_file", str(tmp_path / "key")]
    config = yaml.safe_load(Path(options[1]).read_text())
    del config["token_pruner_conf"]
    (tmp_path / "sir.yaml").write_text(yaml.safe_dump(config))
    options = ["--config", str(tmp_path / "sir.yaml"), *options[2:]]
    main([*options, *conf, "--output_dir", str(tmp_path)])
    ((answer,),) = (read_answers(tmp_path)[1],)
    assert answer.kept == tuple(range(answer.audio_tokens))
    assert answer.condition.name == "speechprune 5000 tokens"


def test_neighbours_that_lack_the_same_go_together():
    a, b, c, d = ((n, (WHOLE,)) for n in "abcd")
    e = ("e", (NOTHING,))
    nothing = ("f", ())
    assert batches([a, b, nothing, c, e, d], 2) == [
        (["a", "b"], (WHOLE,)),
        (["c"], (WHOLE,)),
        (["e"], (NOTHING,)),
        (["d"], (WHOLE,)),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--token_pruner", "magic"], "unknown strategy 'magic'"),
        (["--token_pruner_conf", "rate=1.0"], "rate is 1.0, but has to be in [0, 1)"),
        (["--token_pruner_conf", "ratio=0.5"], "unknown key 'ratio'"),
        (["--speech_llm", "gpt"], "speech_llm is 'gpt', choose from qwen2_audio"),
        (["--speech_llm_conf", "modle=x"], "speech_llm_conf of qwen2_audio"),
        (["--batch_size", "0"], "--batch_size is 0"),
        (["--prompt", "Listen!"], "has to have {question} in it"),
        (["--protocol", "letter", "--prompt", "{question}"], "has to have {choices} in it"),
        (["--protocol", "guess"], "protocol is 'guess', choose from likelihood, letter"),
        (GRID, "token_pruner_conf has rate"),
        (["--strategies", "rap", "--rates", "much"], "have to be numbers"),
        (["--token_pruner", "none", "--token_pruner_conf", "rate=1.0"], "rate is 1.0, but has to"),
    ],
)
def test_wrong_options(options, tmp_path, capsys, changes, message):
    assert message in fails(capsys, *options, "--output_dir", str(tmp_path), *changes)


def test_wrong_data(options, tmp_path, capsys):
    folder = save_data_dir(tmp_path / "data")
    rows = read_table(folder / "questions")
    write_table(
        folder / "questions", {**rows, "b": json.dumps({**json.loads(rows["b"]), "question": ""})}
    )
    options = [*options[:2], "--data_dir", str(folder), "--output_dir", str(tmp_path / "out")]
    assert "questions: b: the question has no text" in fails(capsys, *options)
    write_table(folder / "questions", rows)
    (folder / "wav" / "c.wav").unlink()
    assert "c: no such file as" in fails(capsys, *options)


def test_a_grid_without_transcripts(options, tmp_path, capsys, monkeypatch):
    config = yaml.safe_load(Path(options[1]).read_text()) | {"token_pruner_conf": {"window": 100}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(config))
    folder = save_data_dir(tmp_path / "data")
    texts = read_table(folder / "text")
    out = ["--output_dir", str(tmp_path / "out")]
    some = ["--config", str(tmp_path / "grid.yaml"), "--data_dir", str(folder), *out]
    some += ["--strategies", "rap", "--rates", "0.5"]
    write_table(folder / "text", {name: text for name, text in texts.items() if name != "c"})
    with monkeypatch.context() as patch:
        patch.setattr(Settings, "load", None)  # refused before there is a model
        assert "c: has no line in text" in fails(capsys, *some)
    (folder / "text").unlink()
    main(some)
    assert {c for _, c in by_key(tmp_path / "out")} == {
        WHOLE,
        FIRST_30_S,
        NOTHING,
        Condition(strategy="rap", rate=0.5),
    }


def test_a_gpu_that_is_not_there_or_too_small(options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu = ["--output_dir", str(tmp_path / "gpu"), "--speech_llm_conf", "device=cuda:1"]
    message = fails(capsys, *options, *gpu)
    assert "device of speech_llm_conf is cuda:1, but there is no GPU" in message

    def full(*_):
        raise torch.OutOfMemoryError("Tried to allocate 2 GiB")

    monkeypatch.setattr(Settings, "load", full)
    options = [*options, "--output_dir", str(tmp_path / "cpu")]
    message = fails(capsys, *options)
    assert "take smaller batches (Tried to allocate 2 GiB)" in message

    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Settings, "load", broken)
    with pytest.raises(RuntimeError, match="a bug"):  # with its traceback
        main(options)


def test_answers_of_other_data_are_not_continued(options, tmp_path, capsys):
    main([*options, "--output_dir", str(tmp_path)])
    message = fails(capsys, *options, "--output_dir", str(tmp_path), "--seed", "1")
    assert "was made with another seed" in message


def test_answers_know_their_audio_and_the_code(options, tmp_path, capsys, monkeypatch):
    data = save_data_dir(tmp_path / "data")
    options = [*options[:2], "--data_dir", str(data), "--output_dir", str(tmp_path / "out")]
    main(options)
    before = (tmp_path / "out" / "answers.all.jsonl").read_bytes()
    main(options)  # nothing is left to do
    path = Path(read_table(data / "wav.scp")["a"])
    content = path.read_bytes()
    path.write_bytes(content[:100] + content[200:300] + content[200:])
    assert "answers.all.jsonl: was made with another data_dir; remove it" in fails(capsys, *options)
    path.write_bytes(content)
    options[-1] = str(tmp_path / "again")
    main(options)
    monkeypatch.setattr(inference, "code_of", lambda *places: "another")
    assert "answers.all.jsonl: was made with another code; remove it" in fails(capsys, *options)
    assert (tmp_path / "out" / "answers.all.jsonl").read_bytes() == before


def test_segments_are_not_passed_over(options, tmp_path, capsys):
    data = save_data_dir(tmp_path / "data")
    (data / "segments").write_text("a a 0.0 0.5\n")
    options = [*options[:2], "--data_dir", str(data), "--output_dir", str(tmp_path / "out")]
    assert "data/segments: whole recordings are read here; cut them by" in fails(capsys, *options)
