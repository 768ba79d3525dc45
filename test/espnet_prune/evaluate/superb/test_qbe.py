"""Query-by-example search from audio to scores, with tiny random encoders."""

from itertools import chain

import numpy as np
import pytest
import soundfile
import torch

from espnet_prune.bin import qbe_inference
from espnet_prune.data import data_dir
from espnet_prune.evaluate.superb.dtw import local_costs, subsequence_costs
from espnet_prune.evaluate.superb.qbe import Moments
from espnet_prune.plugin.pruned_ssl import PretrainedEncoder


@pytest.fixture
def corpus(tmp_path):
    """Four documents; queries that are parts of the first and of the last, and a short one."""
    generator = np.random.default_rng(0)
    audio = {}
    for number in range(4):
        steps = generator.uniform(300, 6000, 12).repeat(1600)
        audio[f"d{number}"] = 0.2 * np.sin(2 * np.pi * np.cumsum(steps) / 16000)
    parts = {"q0": audio["d0"][4800:12800], "q1": audio["d3"][3200:9600], "q2": audio["d1"][:300]}
    for folder, recordings in (("documents", audio), ("queries", parts)):
        (tmp_path / folder).mkdir()
        scp = {}
        for name, samples in recordings.items():
            scp[name] = tmp_path / folder / f"{name}.wav"
            soundfile.write(scp[name], samples, 16000)
        data_dir.write_table(tmp_path / folder / "wav.scp", scp)
    return tmp_path


def search(corpus, upstream, *options):
    line = ["--upstream", upstream, "--documents", str(corpus / "documents"), *options]
    line += ["--output_dir", str(corpus / "out"), "--queries", "own", str(corpus / "queries")]
    qbe_inference.main(line)


def read_scores(path):
    rows = {}
    for line in path.read_text().splitlines():
        query, document, score = line.split()
        rows.setdefault(query, {})[document] = float(score)
    return rows


def test_scores_of_each_layer(corpus, tiny, caplog):
    search(corpus, tiny["wavlm"])
    assert "queries: 1 queries are too short to be searched for, the first is q2" in caplog.text
    pretrained = PretrainedEncoder(tiny["wavlm"], freeze=True, full_window=True)
    states = {}
    with torch.no_grad():
        for folder in ("documents", "queries"):
            for name, path in data_dir.read_table(corpus / folder / "wav.scp").items():
                speech = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
                if name != "q2":
                    found, _ = pretrained(speech, torch.tensor([speech.shape[1]]))
                    states[name] = [state[0] for state in found]
    documents = ["d0", "d1", "d2", "d3"]
    for layer in range(4):
        every = torch.cat([state[layer] for state in states.values()])
        mean, std = every.mean(dim=0), every.std(dim=0)
        frames = {name: (state[layer] - mean) / std for name, state in states.items()}
        rows = read_scores(corpus / "out" / "own" / f"layer{layer}.txt")
        assert list(rows) == ["q0", "q1", "q2"] and set(rows["q2"].values()) == {0.0}
        for query, held in (("q0", "d0"), ("q1", "d3")):
            costs = [
                subsequence_costs(
                    local_costs(frames[query][None], frames[document]),
                    torch.tensor([len(frames[query])]),
                ).item()
                for document in documents
            ]
            expected = (np.mean(costs) - costs) / np.std(costs)
            assert list(rows[query]) == documents
            assert list(rows[query].values()) == pytest.approx(expected, abs=2e-4)
            assert max(rows[query], key=rows[query].get) == held


def test_bad_input(corpus, tiny, capsys):
    def error(upstream, *options):
        with pytest.raises(SystemExit) as ended:
            search(corpus, upstream, *options)
        assert ended.value.code == 1 and not (corpus / "out").exists()
        return capsys.readouterr().err.splitlines()[-1]

    wavlm = tiny["wavlm"]
    assert error(wavlm, "--ngpu", "2") == "error: --ngpu 2: give 0 or 1"
    twice = error(wavlm, "--queries", "own", str(corpus / "queries"))
    assert twice == "error: --queries: a name is there twice"
    path = corpus / "documents" / "d2.wav"
    soundfile.write(path, np.zeros(300), 16000)
    assert "documents: d2 is too short for a frame of the encoder, which needs 345" in error(wavlm)
    soundfile.write(path, np.zeros(16000), 8000)
    assert f"error: {path}: has 8000 Hz instead of 16000 Hz" in error(wavlm)
    soundfile.write(path, np.zeros(32000), 16000)
    assert f"error: {path}: an utterance has 32000 samples, but whisper takes" in error(
        tiny["whisper"]
    )
    path.unlink()
    assert error(wavlm) == f"error: {path}: no such file"


def test_moments_of_two_sets():
    torch.manual_seed(0)
    frames = [torch.randn(n, 3) * 4 + 7 for n in (5, 1, 9)]
    first, second = Moments(1), Moments(1)
    first.add([frames[0]])
    for part in frames[1:]:
        second.add([part])
    mean, std = first.with_(second, 0)
    every = torch.stack(list(chain.from_iterable(frames)))
    torch.testing.assert_close(mean, every.mean(dim=0))
    torch.testing.assert_close(std, every.std(dim=0))


def test_segments_are_not_passed_over(corpus, tiny, capsys):
    (corpus / "documents" / "segments").write_text("u d0 0.0 0.5\n")
    with pytest.raises(SystemExit):
        search(corpus, tiny["wavlm"])
    message = "documents/segments: whole recordings are read here; cut them by"
    assert message in capsys.readouterr().err
