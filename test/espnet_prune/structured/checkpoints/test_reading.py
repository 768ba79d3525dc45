import argparse
import collections
import enum
import functools
import os
import pickle
import sys
import types

import pytest
import torch

from espnet_prune.structured.checkpoints import import_checkpoint
from espnet_prune.structured.checkpoints.reading import StandIn, read_file
from test.espnet_prune.structured.checkpoints.test_fairseq import content as fairseq_content


class Evil:
    """Makes a directory when it is unpickled."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.fixture
def fairseq(monkeypatch):
    """Classes that pickle as fairseq's do."""

    class Dictionary:
        def __init__(self):
            self.symbols, self.me = ["<s>", "a"], self

    class Choice(enum.Enum):
        gelu = "gelu"

    for path, names in {
        "fairseq": [],
        "fairseq.data": [],
        "fairseq.data.dictionary": [Dictionary],
        "fairseq.dataclass": [Choice],
    }.items():
        module = types.ModuleType(path)
        for one in names:
            one.__module__, one.__qualname__ = path, one.__name__
            setattr(module, one.__name__, one)
        monkeypatch.setitem(sys.modules, path, module)
    return Dictionary, Choice


@pytest.mark.parametrize("zipped", [True, False])
def test_options_come_out_as_plain_containers(tmp_path, fairseq, zipped, monkeypatch):
    omegaconf = pytest.importorskip("omegaconf")
    dictionary, choice = fairseq
    counts = collections.defaultdict(list)
    counts["a"] = 3
    options = omegaconf.OmegaConf.create({"a": {"b": [1, "two", None]}, "c": 0.5})
    content = {
        "args": argparse.Namespace(x=1, inner=argparse.Namespace(y=(2, "z"))),
        "cfg": options,
        "activation": choice.gelu,
        "dictionaries": [dictionary()],
        "counts": counts,
        "type": int,
        "model": {"w": torch.arange(3)},
    }
    path = tmp_path / "model.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for name in [name for name in sys.modules if name.startswith("fairseq")]:
        monkeypatch.delitem(sys.modules, name)  # reading needs none of their code
    read = read_file(path)
    assert torch.equal(read.pop("model")["w"], torch.arange(3))
    assert read == {
        "args": {"x": 1, "inner": {"y": (2, "z")}},
        "cfg": {"a": {"b": [1, "two", None]}, "c": 0.5},
        "activation": "gelu",
        "dictionaries": [{"symbols": ["<s>", "a"], "me": None}],
        "counts": {"a": 3},
        "type": None,
    }
    allowed = torch.serialization.get_safe_globals()
    assert not any(isinstance(entry, tuple) and entry[0] is StandIn for entry in allowed)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("call", "name"),
    [(os.mkdir, "posix.mkdir"), (eval, "eval"), (functools.partial, "functools.partial")],
)
def test_pickled_code_is_refused(tmp_path, monkeypatch, zipped, call, name):
    monkeypatch.chdir(tmp_path)
    argument = {os.mkdir: "made", eval: "__import__('os').mkdir('made')", functools.partial: print}
    content = {"model": {}, "args": Evil(call, argument[call])}
    torch.save(content, "model.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"model\.pt: holds a '(\w+\.)?{name}'.* is not opened"):
        import_checkpoint("model.pt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pt"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_file(tmp_path, zipped, share):
    path = tmp_path / "model.pt"
    state = {f"encoder.transformer.{i}": torch.randn(50) for i in range(20)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"model\.pt: damaged") as error:
        import_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pt: no such file"):
        import_checkpoint(tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match="no such file; give a checkpoint file"):
        import_checkpoint(tmp_path)
    path = tmp_path / "x.pt"
    for data in (b"text\n", pickle.dumps({"a": 1}), bytes(range(256)) * 20):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"x\.pt: damaged"):
            import_checkpoint(path)
    for content in ({"a": 1}, [1, 2], torch.zeros(2), {"state_dict": None}, {"model": 3}, None):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"x\.pt: its format is not known"):
            import_checkpoint(path)


def nested(depth: int):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def doubled(depth: int):
    """2^depth lists in a few bytes each."""
    value: list = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize("content", [nested(230), doubled(40)])
def test_containers_without_an_end(tmp_path, content):
    torch.save({"model": {}, "cfg": content}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt: damaged: its containers have no end"):
        import_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_feature_layers": "[(512,10,5)]*99*99*99*99*99"}, "cannot be read"),
        ({"conv_feature_layers": "(" * 5000}, "cannot be read"),
        ({"encoder_attention_heads": 10**9}, "cannot be divided|has to be from 1"),
        ({"encoder_attention_heads": "x"}, "invalid literal"),
        ({"dropout": []}, "damaged, no checkpoint of fairseq"),
    ],
)
def test_options_of_no_model(tmp_path, change, message):
    whole = fairseq_content("hubert-base")
    whole["cfg"] = {**whole["cfg"], "model": {**whole["cfg"]["model"], **change}}
    torch.save(whole, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=rf"x\.pt: .*({message})") as error:
        import_checkpoint(tmp_path / "x.pt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.fill_(torch.nan), "has NaN or infinite values"),
        (lambda w: w.to(torch.int8), "is of torch.int8"),
        (lambda w: w.new_zeros(1).expand(10**6, 10**5), "larger than its content"),
    ],
)
def test_tensors_of_no_model(tmp_path, change, message):
    whole = fairseq_content("hubert-base")
    name = next(name for name in whole["model"] if name.endswith("fc1.weight"))
    whole["model"][name] = change(whole["model"][name])
    torch.save(whole, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=rf"x\.pt: .*{message}"):
        import_checkpoint(tmp_path / "x.pt")
