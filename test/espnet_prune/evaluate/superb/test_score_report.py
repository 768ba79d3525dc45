import json

import pytest

from espnet_prune.cli import main
from espnet_prune.evaluate.superb.score import METRICS, PUBLISHED, TASKS
from espnet_prune.evaluate.superb.score_report import plot_score


def score(capsys, *arguments):
    main(["superb", "score", *map(str, arguments)])
    return capsys.readouterr().out.rstrip("\n").split("\n")


@pytest.mark.parametrize("name", PUBLISHED)
def test_last_line_is_the_published_score(tmp_path, capsys, name):
    (tmp_path / "figures.json").write_text(json.dumps(PUBLISHED[name].values))
    lines = score(capsys, "--json", tmp_path / "figures.json")
    assert abs(float(lines[-1]) - PUBLISHED[name].score) <= 1


def test_what_is_written(tmp_path, capsys):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(PUBLISHED["DPWavLM"].values))
    score(capsys, "--json", path, "--parameters", 23.59, "--macs", 589)
    names = {"mine.json"} | {f"mine_superb_score.{end}" for end in ("md", "json", "png")}
    assert {file.name for file in tmp_path.iterdir()} == names
    text = (tmp_path / "mine_superb_score.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")]
    assert ["task", "metric", "figure", "FBANK", "SOTA", "score of the task"] in rows
    # 1000 (10.19 - 23.18) / (3.62 - 23.18)
    assert ["ASR", "WER", "10.19", "23.18", "3.62", "664"] in rows
    assert ["mine", "23.59", "589", "926"] in rows
    assert ["DistilHuBERT", "23.49", "-", "717"] in rows
    summary = json.loads((tmp_path / "mine_superb_score.json").read_text())
    assert summary["published"]["DPWavLM"] == summary["score"] and summary["missing"] == []
    score(capsys, "--json", path, "--output_dir", tmp_path / "out")
    assert (tmp_path / "out/mine_superb_score.png").is_file()


@pytest.mark.parametrize("size", [(23.6, 589.0), (23.6, None)])
def test_plot(tmp_path, size):
    scores = {name: model.score for name, model in PUBLISHED.items()}
    sizes = {name: (model.parameters, model.macs) for name, model in PUBLISHED.items()}
    plot_score("mine", 900.0, scores, {**sizes, "mine": size}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def write_scores(folder, task, **metrics):
    (folder / task).mkdir(parents=True, exist_ok=True)
    entries = {name: {"value": v, "low": v - 0.01, "high": v + 0.01} for name, v in metrics.items()}
    (folder / task / "scores.json").write_text(json.dumps({"metrics": entries}))


def test_results_directory(tmp_path, capsys, caplog):
    results = tmp_path / "mymodel"
    model = PUBLISHED["DPHuBERT"]
    for task in TASKS:
        figures = {
            metric.measure: model.values[name] / 100
            for name, metric in METRICS.items()
            if metric.task == task
        }
        write_scores(results, task, **figures)
    lines = score(capsys, results)
    assert abs(float(lines[-1]) - model.score) <= 1
    assert caplog.text == ""
    text = (results / "superb_score.md").read_text()
    assert "76.83 [75.83, 77.83]" in text and "| mymodel " in text and "Partial" not in text
    assert (results / "superb_score.png").is_file()

    (results / "ASV/scores.json").unlink()
    (results / "SF/scores.json").unlink()
    partial = score(capsys, results, "--name", "again")
    assert "scored over 8 of 10 tasks; left out: ASV, SF" in caplog.text
    assert "Partial: over 8 of 10 tasks (left out: ASV, SF), for all models below." in partial
    summary = json.loads((results / "superb_score.json").read_text())
    assert summary["published"]["DPHuBERT"] == pytest.approx(summary["score"])
    assert float(partial[-1]) == pytest.approx(summary["score"], abs=0.05)
    assert float(partial[-1]) != float(lines[-1])


def test_reads_what_the_scorers_write(tmp_path, capsys):
    (tmp_path / "ref").write_text("a B-x CAT E-x\nb YES\n")
    (tmp_path / "hyp").write_text("a B-x CUT E-x\nb YES\n")
    files = ["--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp"), "--output_dir"]
    results = tmp_path / "results"
    main(["score", "text", *files, str(results / "ASR")])
    main(["score", "slots", *files, str(results / "SF")])
    main(["score", "accuracy", *files, str(results / "KS")])
    score(capsys, results)
    figures = json.loads((results / "superb_score.json").read_text())["figures"]
    values = {name: round(entry["value"], 3) for name, entry in figures.items()}
    # Words: b x cat e x yes.
    assert values == {"ASR": 16.667, "KS": 50.0, "SF-F1": 100.0, "SF-CER": 33.333}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "f.json: not JSON"),
        ("[1]", "f.json: not a JSON object"),
        ("{}", "f.json: there are no figures"),
        ('{"WER": 1}', "f.json: metric 'WER' is unknown; known are PR, ASR"),
        ('{"PR": [1]}', "f.json: PR: [1] is not a finite number"),
        ('{"SF-CER": 1}', "SF-F1 is missing"),
        (None, "f.json: no such file"),
    ],
)
def test_bad_json(tmp_path, capsys, text, message):
    if text is not None:
        (tmp_path / "f.json").write_text(text)
    refused(capsys, ["--json", tmp_path / "f.json"], message)


def refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(["superb", "score", *map(str, arguments)])
    captured = capsys.readouterr()
    assert ended.value.code == 1 and captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err


def test_bad_results(tmp_path, capsys):
    refused(capsys, [tmp_path / "none"], "none: no such directory")
    refused(capsys, [tmp_path], "has no results; expected are PR/scores.json, ASR/scores.json")
    write_scores(tmp_path, "KS", wer=0.5)
    refused(capsys, [tmp_path], "KS/scores.json: has no metric 'accuracy'; score KS again")
    (tmp_path / "KS/scores.json").write_text('{"metrics": {"accuracy": {"value": null}}}')
    refused(capsys, [tmp_path], "KS/scores.json: has no metric 'accuracy'")
    write_scores(tmp_path, "KS", accuracy=0.5)
    refused(capsys, [tmp_path, "--macs", "-1"], "--macs -1: must be positive")
    refused(capsys, [tmp_path, "--name", "DPHuBERT"], "name of a published model")
