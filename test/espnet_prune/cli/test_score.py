"""The command lines of the scorers: what they read, write and refuse."""

import json

import numpy as np
import pytest

from espnet_prune.cli import main
from espnet_prune.data.rttm import Turn, rttm_text


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command in tmp_path and returns what it wrote to scores.json."""
    monkeypatch.chdir(tmp_path)

    def run(command, line):
        main(["score", command, *line.split(), "--output_dir", "out"])
        return json.loads((tmp_path / "out/scores.json").read_text())

    run.folder = tmp_path
    return run


@pytest.fixture
def refuses(call, capsys):
    """Runs a command that has to end with one line of error."""

    def run(command, line, message):
        with pytest.raises(SystemExit) as ended:
            call(command, line)
        error = capsys.readouterr().err
        assert ended.value.code == 1
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error
        assert not (call.folder / "out/scores.json").exists()

    return run


def write(folder, **files):
    for name, text in files.items():
        (folder / name).write_text(text)


def test_accuracy_over_folds(call, capsys, caplog):
    write(call.folder, r1="a on\nb off\n", h1="a on\nb on\n")
    write(call.folder, r2="c set heat  kitchen\nd up\n", h2="c set heat kitchen\n")
    one = call("accuracy", "--ref r1 --hyp h1")
    assert one["metrics"]["accuracy"] == {"value": 0.5, "low": 0.0, "high": 1.0}
    two = call("accuracy", "--ref r1 r2 --hyp h1 h2")
    assert two["folds"] == [0.5, 0.5] and two["utterances"] == 4 and two["missing"] == ["d"]
    assert "h2: no hypothesis for d: it counts as wrong" in caplog.text
    assert "| accuracy | 50.00 [" in capsys.readouterr().out


def test_bad_accuracy(call, refuses):
    write(call.folder, r="a on\n", h="a on\nb off\n", none="", unlabelled="a\n")
    refuses("accuracy", "--ref r --hyp h", "h: 1 utterances are not in the reference")
    refuses("accuracy", "--ref r r --hyp r", "--ref has 2 folds but --hyp 1")
    refuses("accuracy", "--ref none --hyp none", "none: has no utterances")
    refuses("accuracy", "--ref unlabelled --hyp r", "unlabelled: 1 utterances have no label")
    refuses("accuracy", "--ref absent --hyp r", "absent: no such file")


def test_phones_are_compared_as_written(call):
    write(call.folder, ref="a HH AH0 L OW1\nb Y EH1 S\n", hyp="a HH AH1 L OW1\nb Y S\n")
    scores = call("phones", "--ref ref --hyp hyp")
    assert scores["metrics"]["per"]["value"] == pytest.approx(2 / 7)
    assert (scores["errors"], scores["reference_length"]) == (2, 7)


def test_slots(call, refuses):
    write(call.folder, ref="a B-x CAT E-x\nb HM\n", hyp="a B-x CUT E-x\nb B-x A E-x\n")
    scores = call("slots", "--ref ref --hyp hyp")["metrics"]
    assert scores["slot_type_f1"]["value"] == 0.5
    assert scores["slot_value_cer"]["value"] == pytest.approx(1 / 3)
    (call.folder / "out/scores.json").unlink()
    write(call.folder, plain="a CAT\n")
    refuses("slots", "--ref plain --hyp plain", "the references hold no slot")


def test_eer_of_scores_and_of_embeddings(call):
    vectors = {"u1": [1.0, 0.0], "u2": [0.9, 0.1], "v1": [0.0, 1.0], "v2": [0.6, 0.6]}
    for name, vector in vectors.items():
        np.save(call.folder / name, np.array([vector]))
    write(
        call.folder,
        trials="u1*u2 1\nv1*v2 target\nu1*v1 0\nu2*v2 nontarget\n",
        scores="u1*u2 4\nv1*v2 3 1\nu1*v1 2\nu2*v2 1\n",
        embed="".join(f"{name} {name}.npy\n" for name in vectors),
        utt2spk="u1 u\nu2 u\nv1 v\nv2 v\n",
    )
    scores = call("eer", "--trials trials --scores scores")
    assert scores["metrics"]["eer"]["value"] == 0
    assert (scores["trials"], scores["targets"], scores["interval_over"]) == (4, 2, "trials")
    # Cosines: 0.994 and 0.707 for targets, 0 and 0.781 for the others.
    scores = call("eer", "--trials trials --embeddings embed --utt2spk utt2spk")
    assert scores["metrics"]["eer"]["value"] == pytest.approx(0.5)
    assert scores["interval_over"] == "speakers" and "eer_best_on_test" not in scores["metrics"]


def test_eer_of_other_checkpoints(call):
    """The chosen checkpoint takes u1 and v1 for one, the second one takes nobody so."""
    vectors = {"u": [1.0, 0.0], "v": [0.0, 1.0], "w": [1.0, 0.1]}
    for name, vector in vectors.items():
        np.save(call.folder / name, np.array(vector))
    write(
        call.folder,
        trials="u1*u2 1\nv1*v2 1\nu1*v1 0\nu2*v2 0\n",
        chosen="u1 u.npy\nu2 v.npy\nv1 u.npy\nv2 u.npy\n",
        other="u1 u.npy\nu2 w.npy\nv1 v.npy\nv2 v.npy\n",
    )
    line = "--trials trials --embeddings chosen --other_embeddings"
    for others in ("other", "chosen other"):
        metrics = call("eer", f"{line} {others}")["metrics"]
        assert metrics["eer"]["value"] == pytest.approx(0.5)
        assert metrics["eer_best_on_test"]["value"] == 0
    metrics = call("eer", f"{line} chosen")["metrics"]
    assert metrics["eer_best_on_test"] == metrics["eer"]


def test_bad_eer(call, refuses):
    np.save(call.folder / "zero", np.zeros(2))
    np.save(call.folder / "object", np.array([{}]), allow_pickle=True)
    write(
        call.folder,
        trials="a*b 1\na*c 0\n",
        labels="a*b yes\n",
        odd="ab 1\n",
        few="a*b 1\n",
        words="a*b x\na*c 1\n",
        embed="a zero.npy\nb zero.npy\nc zero.npy\n",
        pickled="a object.npy\n",
    )
    refuses("eer", "--trials labels --scores few", "labels: a*b: 'yes' is not one of 1, 0")
    refuses("eer", "--trials trials --scores few", "few: has no line for a*c")
    refuses("eer", "--trials trials --scores words", "words: a*b: 'x' is not a score")
    refuses("eer", "--trials few --scores few", "one kind is missing")
    refuses("eer", "--trials odd --embeddings embed", "trial 'ab' is not 'utterance*utterance'")
    refuses("eer", "--trials trials --embeddings embed", "zero.npy: the embedding of a is zero")
    refuses("eer", "--trials trials --embeddings pickled", "object.npy: not a .npy file")


REF = {"one": [Turn("a", 0.0, 1.0)], "two": [Turn("a", 0.0, 0.5), Turn("b", 0.5, 1.0)]}


def test_der_of_rttm(call, caplog):
    write(call.folder, ref=rttm_text(REF), hyp=rttm_text({"one": [Turn("x", 0.0, 1.5)]}))
    scores = call("der", "--ref ref --hyp hyp")
    assert scores["metrics"]["der"]["value"] == pytest.approx((0.5 + 1) / 2)
    assert scores["missed_seconds"] == pytest.approx(1)
    assert "hyp: no hypothesis for two: it counts as missed" in caplog.text


@pytest.fixture
def posteriors(call):
    """Test is best at 0.3, dev at 0.6; frames of 0.1 s."""

    def save(name, low, high):
        # A speaker at `high` in the first half and at `low` in the second.
        array = np.zeros((20, 2))
        array[:10, 0], array[10:, 0] = high, low
        np.save(call.folder / name, array)
        write(call.folder, **{f"{name}.scp": f"r {name}.npy\n"})

    save("dev", 0.55, 0.65)
    save("test", 0.35, 0.65)
    write(call.folder, dev_ref=rttm_text({"r": [Turn("a", 0.0, 1.0)]}))
    write(call.folder, ref=rttm_text({"r": [Turn("a", 0.0, 2.0)]}))
    return "--ref ref --posteriors test.scp --dev_ref dev_ref --dev_posteriors dev.scp"


def test_der_chooses_on_dev(call, posteriors):
    scores = call("der", posteriors + " --frame_shift 0.1")
    assert scores["chosen_on_dev"] == {"threshold": 0.6, "median": 1}
    assert scores["metrics"]["der"]["value"] == pytest.approx(0.5)
    assert scores["best_on_test"] == {"threshold": 0.3, "median": 1}
    assert scores["metrics"]["der_best_on_test"]["value"] == pytest.approx(0)
    assert (call.folder / "out/hyp.rttm").read_text() == (
        "SPEAKER r 1 0.000 1.000 <NA> <NA> 0 <NA> <NA>\n"
    )


def test_bad_der(call, refuses, posteriors):
    np.save(call.folder / "logits", np.full((20, 2), 3.0))
    write(call.folder, bad="r logits.npy\n", odd="x test.npy\n", other="r gone.npy\n")
    refuses("der", posteriors, "--posteriors needs --dev_ref, --dev_posteriors and --frame")
    refuses("der", posteriors + " --frame_shift -1", "--frame_shift -1: must be positive")
    shift = " --frame_shift 0.1"
    for name, message in [
        ("bad", "logits.npy: not probabilities of shape (frames, speakers)"),
        ("odd", "odd: 1 recordings are not in the reference, the first is x"),
        ("other", "gone.npy: no such file"),
    ]:
        refuses("der", posteriors.replace("test.scp", name) + shift, message)
    refuses("der", "--ref ref --hyp ref --dev_ref ref", "--hyp needs no development set")
    refuses("der", "--ref ref --hyp ref --frame_shift 1", "--hyp needs no development set")


def test_twv_chooses_layer_and_threshold_on_dev(call, capsys):
    write(
        call.folder,
        dev="q d1\n",
        dev_1="q d1 3\nq d2 1\n",
        dev_2="q d1 1\nq d2 3\n",
        ref="p d1\nq d2\nno\n",
        test_1="p d1 5\np d2 1\nq d1 1\nq d2 2\nno d1 0\nno d2 9\n",
        test_2="p d1 5\np d2 1\nq d1 1\nq d2 5\nno d1 0\nno d2 0\n",
    )
    line = "--ref ref --scores 1 test_1 --scores 2 test_2"
    scores = call("twv", line + " --dev_ref dev --dev_scores 2 dev_2 --dev_scores 1 dev_1")
    assert scores["chosen_on_dev"] == "1" and scores["dev_mtwv"] == {"1": 1, "2": 0}
    assert scores["dev_threshold"] == 3
    # At 3 only one of the two queries is found; at 2 both are.
    assert scores["metrics"]["atwv"]["value"] == 0.5
    assert (scores["metrics"]["mtwv"]["value"], scores["mtwv_threshold"]) == (1, 2)
    assert (scores["queries"], scores["documents"]) == (2, 2)
    assert "| mtwv   | 100.00 [" in capsys.readouterr().out
    alone = call("twv", "--ref ref --scores 2 test_2")["metrics"]
    assert alone["mtwv"]["value"] == 1 and "atwv" not in alone


def test_bad_twv(call, refuses):
    write(
        call.folder,
        ref="p d1\nq d2\n",
        good="p d1 5\np d2 1\nq d1 1\nq d2 2\n",
        short="p d1 5\np d2 1\nq d1 1\n",
        none="p d1 5\np d2 1\n",
        twice="p d1 5\np d1 5\n",
        odd="p d1\n",
        unknown="x d1 5\n",
        unheld="p\nq\n",
    )
    refuses("twv", "--ref ref --scores 1 short", "query q lacks scores of 1 documents")
    refuses("twv", "--ref ref --scores 1 none", "query q lacks scores of 2 documents")
    refuses("twv", "--ref ref --scores 1 twice", "line 2: p d1 is there twice")
    refuses("twv", "--ref ref --scores 1 odd", "line 1: not 'query document score'")
    refuses("twv", "--ref ref --scores 1 unknown", "line 1: query x is not in ref")
    refuses("twv", "--ref unheld --scores 1 good", "nothing to find")
    refuses("twv", "--ref ref --scores 1 absent", "absent: no such file")
    two = "--ref ref --scores 1 good --scores 2 good"
    refuses("twv", two, "several --scores need --dev_ref and --dev_scores")
    refuses("twv", two + " --dev_ref ref", "belong together")
    refuses("twv", two + " --dev_ref ref --dev_scores 1 good", "'2' is in only one of")
    refuses("twv", "--ref ref --scores 1 good --scores 1 good", "--scores: a name is there twice")


@pytest.mark.parametrize("command", ["accuracy", "der", "eer", "phones", "slots", "twv"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["score", command, "--help"])
    assert ended.value.code == 0
    assert "--output_dir" in capsys.readouterr().out
