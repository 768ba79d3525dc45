import json

import pytest

from espnet_prune.cli import main

REF = "b Press 1 now.\na the CAT sat\nc zero\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "ref").write_text(REF)
    (tmp_path / "hyp").write_text("a The cat sat.\nb press two now\nc zero\n")
    return tmp_path


def score(folder, *more, ref="ref", hyp="hyp"):
    arguments = ["--ref", folder / ref, "--hyp", folder / hyp, "--output_dir", folder / "out"]
    main(["score", "text", *map(str, [*arguments, *more])])
    return json.loads((folder / "out/scores.json").read_text())


def test_one_system(files, capsys):
    scores = score(files)
    assert scores["utterances"] == 3
    wer = scores["systems"]["hyp"]["wer"]
    assert (wer["errors"], wer["reference_length"]) == (1, 7)
    assert wer["rate"] == pytest.approx(1 / 7)
    assert 0 <= wer["low"] <= wer["rate"] <= wer["high"] <= 1
    # "one" and "two" share the letter o at different places: three characters are changed.
    cer = scores["systems"]["hyp"]["cer"]
    assert (cer["errors"], cer["reference_length"]) == (3, 11 + 13 + 4)
    assert scores["systems"]["hyp"]["missing"] == []
    assert "difference" not in scores
    out = capsys.readouterr().out
    assert "14.3 [0.0, " in out and "| 3 " in out


def test_result_files_have_the_layout_of_sclite(files):
    score(files)
    text = (files / "out/score_wer/result.txt").read_text()
    assert text.split("\n")[0].split() == (
        "| SPKR | # Snt # Wrd | Corr Sub Del Ins Err S.Err |".split()
    )
    assert text.split("\n")[1].split() == (
        "| Sum/Avg | 3 7 | 85.7 14.3 0.0 0.0 14.3 33.3 |".split()
    )
    assert "id: (b)\nScores: (#C #S #D #I) 2 1 0 0\nREF: press one now\nHYP: press two now" in text
    assert "id: (a)" not in text
    assert "Scores: (#C #S #D #I)" in (files / "out/score_cer/result.txt").read_text()


def test_missing_utterance_counts_as_deleted(files, caplog):
    (files / "hyp").write_text("a the cat sat\nc\n")
    system = score(files)["systems"]["hyp"]
    assert system["missing"] == ["b"]
    assert (system["wer"]["errors"], system["wer"]["reference_length"]) == (4, 7)
    assert "no hypothesis for b" in caplog.text
    assert (
        "utterances without a hypothesis: 1\n  b\n"
        in (files / "out/score_wer/result.txt").read_text()
    )


def test_two_systems(files, capsys):
    (files / "hyp2").write_text(REF)
    scores = score(files, "--hyp2", files / "hyp2")
    assert scores["systems"]["hyp2"]["wer"]["errors"] == 0
    difference = scores["difference"]["wer"]
    assert difference["difference"] == pytest.approx(-1 / 7)
    assert difference["low"] <= difference["difference"] <= difference["high"] <= 0
    assert 0.5 < difference["improvement"] < 1
    assert "second minus first" in capsys.readouterr().out
    assert (files / "out/score_wer/result_hyp2.txt").is_file()


def test_the_normaliser_of_published_wers(tmp_path):
    (tmp_path / "ref").write_text("a Mr. Grey won't pay $20, uh, for 3 colours [noise]\n")
    (tmp_path / "hyp").write_text("a mister grey will not pay 20 dollars for three colors\n")
    spoken = score(tmp_path)
    assert spoken["normalizer"] == "spoken" and spoken["systems"]["hyp"]["wer"]["errors"] > 0
    whisper = score(tmp_path, "--normalizer", "whisper")
    assert whisper["normalizer"] == "whisper" and whisper["metrics"]["wer"]["value"] == 0
    # "mister gray will not pay $20 for 3 colors"
    assert whisper["systems"]["hyp"]["wer"]["reference_length"] == 9


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("hyp", "a x\nz y\ny y\n", "hyp: 2 utterances are not in the reference, the first is y"),
        ("hyp", "a x\na y\n", "a is there twice"),
        ("hyp", None, "no such file"),
        ("ref", "", "the references hold no words"),
        ("ref", "a .\nb ?\nc !\n", "the references hold no words"),
    ],
)
def test_bad_input(files, capsys, name, content, message):
    if content is None:
        (files / name).unlink()
    else:
        (files / name).write_text(content)
    if content == "":
        (files / "hyp").write_text("")
    with pytest.raises(SystemExit) as ended:
        score(files)
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (files / "out/scores.json").exists()
