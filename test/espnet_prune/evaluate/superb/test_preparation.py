import json

import numpy as np
import pytest
import torch
import yaml

from espnet_prune.data import data_dir
from espnet_prune.evaluate.superb import preparation as superb
from test.espnet_prune.tiny import saved


def write(folder, labels, samples=16000):
    tables = {
        "wav.scp": {name: "/audio.wav" for name in labels},
        "text": labels,
        "utt2spk": {name: "s" for name in labels},
        "utt2num_samples": {name: str(samples) for name in labels},
    }
    data_dir.write_dir(folder, tables)
    return folder


def test_labels_of_the_training_data(tmp_path):
    train = write(tmp_path / "train", {"a": "yes", "b": "no", "c": "yes"})
    test = write(tmp_path / "test", {"d": "no"})
    args = ["labels", "--train", str(train), "--others", str(test), "--output_dir", str(tmp_path)]
    assert superb.main(args) == 0
    assert (tmp_path / "labels.txt").read_text() == "no\nyes\n<unk>\n"
    assert (train / "category2utt").read_text() == "no b\nyes a c\n"


@pytest.mark.parametrize(
    "train, test, message",
    [
        ({"a": "yes", "b": "no"}, {"d": "go", "e": "go"}, "class go of 2 utterances is not in"),
        ({"a": "yes", "b": "yes"}, {"d": "yes"}, "only the class yes"),
        ({"a": "yes", "b": "not at all"}, {"d": "yes"}, "b: 'not at all' has several words"),
        ({"a": "yes", "b": ""}, {"d": "yes"}, "b: has no label"),
        ({"a": "yes", "b": "<unk>"}, {"d": "yes"}, "<unk> is ESPnet's own"),
        ({"a": "yes", "b": "no"}, {}, "is empty"),
    ],
)
def test_labels_that_cannot_be_learnt(train, test, message, tmp_path, capsys):
    train, test = write(tmp_path / "train", train), write(tmp_path / "test", test)
    args = ["labels", "--train", str(train), "--others", str(test), "--output_dir", str(tmp_path)]
    assert superb.main(args) == 1
    assert message in capsys.readouterr().err


def test_all_combinations_of_slots(tmp_path):
    train = write(tmp_path / "train", {"a": "on+lamp", "b": "off+heat", "c": "off+music"})
    test = write(tmp_path / "test", {"d": "on+heat"})  # a new combination of known values
    superb.write_labels(train, [test], tmp_path, slots=True)
    assert (tmp_path / "labels.txt").read_text().split() == [
        *("off+heat", "off+lamp", "off+music"),
        *("on+heat", "on+lamp", "on+music"),
        "<unk>",
    ]
    assert yaml.safe_load((tmp_path / "slot_sizes").read_text()) == [2, 3]
    for labels, message in (
        ({"d": "on+juice"}, "value juice of slot 2 is not in"),
        ({"d": "on"}, "'on' has not 2 values"),
        ({"d": "on+"}, r"'on\+' has not 2 values"),
    ):
        with pytest.raises(ValueError, match=message):
            superb.slot_classes(train, [write(tmp_path / "bad", labels)])


def test_lengths(tmp_path):
    wavlm = saved("wavlm-base", tmp_path / "wavlm")
    whisper = saved("whisper", tmp_path / "whisper")  # of 60 frames, 1.2 s
    # Kernels 10, 8, 16 and strides 5, 4, 16: (16 - 1) 4 + 8 = 68, (68 - 1) 5 + 10 = 345 samples
    good, short = (
        write(tmp_path / "good", {"a": "x"}, 345),
        write(tmp_path / "short", {"b": "x"}, 344),
    )
    long = write(tmp_path / "long", {"c": "x"}, 19201)
    superb.check_lengths(wavlm, {}, [good], [long])
    with pytest.raises(ValueError, match="b has 344 samples, shorter than .* wavlm encoder, 345"):
        superb.check_lengths(wavlm, {}, [good], [short])
    with pytest.raises(ValueError, match="c has 19201 samples, longer than .* encoder, 19200"):
        superb.check_lengths(whisper, {}, [long], [good])
    crop = {"frontend_conf": {"crop_seconds": 1.0}}
    superb.check_lengths(whisper, crop, [long], [good])
    with pytest.raises(ValueError, match="long"):
        superb.check_lengths(whisper, crop, [good], [long])


def training(folder, rate, values, name="acc"):
    """What ESPnet leaves behind, as far as it is read."""
    folder.mkdir()
    (folder / "config.yaml").write_text(f"optim_conf:\n    lr: {rate}\n")
    stats = {
        epoch: {"train": {"loss": 1.0}, "valid": {name: np.float64(value)}}
        for epoch, value in enumerate(values, 1)
    }
    torch.save({"reporter": {"stats": stats, "epoch": len(values)}}, folder / "checkpoint.pth")
    return folder


def test_the_learning_rate_is_chosen_on_valid(tmp_path, caplog):
    trained = [
        training(tmp_path / "lr_1", 1.0, [float("nan"), float("nan")]),
        training(tmp_path / "lr_2", 0.1, [0.5, 0.9, 0.7]),
        training(tmp_path / "lr_3", 0.01, [0.8, 0.9]),
    ]
    args = ["choose", *map(str, trained), "--criterion", "acc.max"]
    for _ in range(2):  # again, where the link is there
        assert superb.main([*args, "--link", str(tmp_path / "best")]) == 0
    assert (tmp_path / "best").resolve() == tmp_path / "lr_2"  # the first of equals
    found = json.loads((tmp_path / "learning_rates.json").read_text())
    assert found["chosen"] == 0.1
    assert [row.get("epoch") for row in found["trainings"]] == [None, 2, 2]
    assert "has no number valid.acc" in caplog.text
    assert superb.choose(trained[1:], "acc.min", tmp_path / "best").name == "lr_2"


def test_a_choice_that_cannot_be_made(tmp_path):
    diverged = training(tmp_path / "lr_1", 1.0, [float("nan")])
    with pytest.raises(ValueError, match="has no number valid.acc"):
        superb.choose([diverged], "acc.max", tmp_path / "best")
    with pytest.raises(ValueError, match="--criterion acc: such as"):
        superb.choose([diverged], "acc", tmp_path / "best")
    (diverged / "checkpoint.pth").unlink()
    with pytest.raises(FileNotFoundError, match="has the training ended"):
        superb.choose([diverged], "acc.max", tmp_path / "best")


def test_random_crops_are_not_cached(tmp_path, capsys):
    path = tmp_path / "train.yaml"
    for config, wrong in (
        ({"frontend_conf": {"crop_seconds": 8}}, "frontend_conf crop_seconds: 8"),
        ({"preprocessor": "speaker_crops"}, "preprocessor: speaker_crops"),
        ({"preprocessor": "default", "frontend_conf": {"layer": 1}}, None),
        ({}, None),
    ):
        path.write_text(yaml.safe_dump(config))
        assert superb.main(["cacheable", "--config", str(path)]) == (wrong is not None)
        shown = capsys.readouterr().err
        assert f"{path}: --feature_cache true: not with '{wrong}'" in shown if wrong else not shown


@pytest.mark.parametrize(("slow", "verdict"), [("ask", "is faster"), ("disk", "is no faster")])
def test_whether_the_cache_is_faster(tmp_path, monkeypatch, slow, verdict):
    """With a clock that only the encoder, or only the disk, moves on."""
    from espnet_prune.structured.distill.feature_cache import FeatureCache

    encoder, now = saved("wavlm-base", tmp_path / "wavlm"), [0.0]
    monkeypatch.setattr(superb.time, "perf_counter", lambda: now[0])
    ask, one = FeatureCache.ask, FeatureCache.one

    def slow_ask(self, wave):
        now[0] += 0.2 if slow == "ask" else 0.05
        return ask(self, wave)

    def slow_one(self, wave, layers):
        now[0] += 0.1
        return one(self, wave, layers)

    monkeypatch.setattr(FeatureCache, "ask", slow_ask)
    monkeypatch.setattr(FeatureCache, "one", slow_one)
    text = superb.cache_speed(encoder, tmp_path / "cache", 1.5, "cpu")
    asked = 200.0 if slow == "ask" else 50.0
    assert f"1.5 s takes the encoder {asked} ms, and 100.0 ms to be read" in text
    assert verdict in text


def test_the_cache_is_announced(tmp_path, monkeypatch, capsys):
    encoder = saved("wavlm-base", tmp_path / "wavlm")  # 3 layers of width 24, 50 frames a second
    train = write(tmp_path / "train", {"a": "x", "b": "x"}, 16000)
    test = write(tmp_path / "test", {"b": "x", "c": "x"}, 16000)
    args = ["lengths", "--upstream", str(encoder), "--train", str(train), "--others", str(test)]
    args += ["--cache", str(tmp_path / "not" / "there")]
    gigabyte = 3 * 4 * 4 * 50 * 24 / 1e9  # b counts once
    for free, status in ((10 * gigabyte, 0), (0.5 * gigabyte, 1)):
        usage = type("Usage", (), {"free": int(1e9 * free)})
        monkeypatch.setattr(superb.shutil, "disk_usage", lambda path, usage=usage: usage)
        assert superb.main(args) == status
    shown = capsys.readouterr()
    assert "the hidden states of 3 utterances need 0.00 GB" in shown.out
    assert "there: an utterance of 1.0 s takes the encoder " in shown.out
    assert not list((tmp_path / "not/there").iterdir())
    assert "say --feature_cache false" in shown.err
