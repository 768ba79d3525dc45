import contextlib

import pytest
import yaml

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from espnet_prune.evaluate.superb import checks
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


def test_lengths(tmp_path):
    wavlm = saved("wavlm-base", tmp_path / "wavlm")
    whisper = saved("whisper", tmp_path / "whisper")  # of 60 frames, 1.2 s
    # Kernels 10, 8, 16 and strides 5, 4, 16: (16 - 1) 4 + 8 = 68, (68 - 1) 5 + 10 = 345 samples
    good, short = (
        write(tmp_path / "good", {"a": "x"}, 345),
        write(tmp_path / "short", {"b": "x"}, 344),
    )
    long = write(tmp_path / "long", {"c": "x"}, 19201)
    checks.check_lengths(wavlm, {}, [good], [long])
    with pytest.raises(ValueError, match="b has 344 samples, shorter than .* wavlm encoder, 345"):
        checks.check_lengths(wavlm, {}, [good], [short])
    with pytest.raises(ValueError, match="c has 19201 samples, longer than .* encoder, 19200"):
        checks.check_lengths(whisper, {}, [long], [good])
    crop = {"frontend_conf": {"crop_seconds": 1.0}}
    checks.check_lengths(whisper, crop, [long], [good])
    with pytest.raises(ValueError, match="long"):
        checks.check_lengths(whisper, crop, [good], [long])


def test_random_crops_are_not_cached(tmp_path, capsys):
    path = tmp_path / "train.yaml"
    for config, wrong in (
        ({"frontend_conf": {"crop_seconds": 8}}, "frontend_conf crop_seconds: 8"),
        ({"preprocessor": "speaker_crops"}, "preprocessor: speaker_crops"),
        ({"preprocessor": "default", "frontend_conf": {"layer": 1}}, None),
        ({}, None),
    ):
        path.write_text(yaml.safe_dump(config))
        with pytest.raises(SystemExit) if wrong else contextlib.nullcontext():
            main(["superb", "cacheable", "--config", str(path)])
        shown = capsys.readouterr().err
        assert (
            f"{path}: --feature_cache true does not go with '{wrong}'" in shown
            if wrong
            else not shown
        )


@pytest.mark.parametrize(("slow", "verdict"), [("ask", "is faster"), ("disk", "is no faster")])
def test_whether_the_cache_is_faster(tmp_path, monkeypatch, slow, verdict):
    """With a clock that only the encoder, or only the disk, moves on."""
    from espnet_prune.structured.distill.state_cache import FeatureCache

    encoder, now = saved("wavlm-base", tmp_path / "wavlm"), [0.0]
    monkeypatch.setattr(checks.time, "perf_counter", lambda: now[0])
    ask, one = FeatureCache.ask, FeatureCache.one

    def slow_ask(self, wave):
        now[0] += 0.2 if slow == "ask" else 0.05
        return ask(self, wave)

    def slow_one(self, wave, layers):
        now[0] += 0.1
        return one(self, wave, layers)

    monkeypatch.setattr(FeatureCache, "ask", slow_ask)
    monkeypatch.setattr(FeatureCache, "one", slow_one)
    text = checks.cache_speed(encoder, tmp_path / "cache", 1.5, "cpu")
    asked = 200.0 if slow == "ask" else 50.0
    assert f"1.5 s takes the encoder {asked} ms, and 100.0 ms to be read" in text
    assert verdict in text


def test_the_cache_is_announced(tmp_path, monkeypatch, capsys):
    encoder = saved("wavlm-base", tmp_path / "wavlm")  # 3 layers of width 24, 50 frames a second
    train = write(tmp_path / "train", {"a": "x", "b": "x"}, 16000)
    test = write(tmp_path / "test", {"b": "x", "c": "x"}, 16000)
    args = ["superb", "lengths", "--upstream", str(encoder)]
    args += ["--train", str(train), "--others", str(test)]
    args += ["--cache", str(tmp_path / "not" / "there")]
    gigabyte = 3 * 4 * 4 * 50 * 24 / 1e9  # b counts once
    for free, status in ((10 * gigabyte, 0), (0.5 * gigabyte, 1)):
        usage = type("Usage", (), {"free": int(1e9 * free)})
        monkeypatch.setattr(checks.shutil, "disk_usage", lambda path, usage=usage: usage)
        with pytest.raises(SystemExit) if status else contextlib.nullcontext():
            main(args)
    shown = capsys.readouterr()
    assert "the hidden states of 3 utterances need 0.00 GB" in shown.out
    assert "there: an utterance of 1.0 s takes the encoder " in shown.out
    assert not list((tmp_path / "not/there").iterdir())
    assert "give --feature_cache false" in shown.err
