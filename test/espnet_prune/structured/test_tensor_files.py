"""Files that were made to run something, or to take all memory, are refused in one line."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from espnet_prune.structured.tensor_files import (
    RefusedObjectError,
    check_finite,
    load_pickled,
    load_tensors,
    plain_values,
)


class Evil:
    def __reduce__(self):
        return open, ("ran", "w")


def test_nothing_is_run_and_the_object_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "reporter": Evil()}, "checkpoint.pth")
    with pytest.raises(RefusedObjectError, match=r"checkpoint.pth: holds a '\w*\.?open'"):
        load_pickled("checkpoint.pth")
    assert not (tmp_path / "ran").exists()


def test_statistics_of_espnet_are_plain_values(tmp_path):
    content = {"a": np.float64(0.5), "b": {1: np.float32(2)}, "c": torch.ones(2)}
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(RefusedObjectError):
        load_pickled(tmp_path / "x.pth")
    assert load_pickled(tmp_path / "x.pth", plain_values())["a"] == 0.5


def packed(path) -> None:
    """What `torch.save` wrote, but compressed: 40 MB of zeros in 40 kB."""
    whole = io.BytesIO()
    torch.save({"w": torch.zeros(10_000_000)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))


def repeated(path) -> None:
    """One number that is said to be 10^12."""
    torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, path)


def made_up(path) -> None:
    """A tensor whose memory is not in the file."""

    class Large:
        def __reduce__(self):
            return torch.Tensor, (1000, 1000)

    torch.save({"w": Large()}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (packed, "bytes unpacked, more than the file"),
        (repeated, "tensor w is not plain, or larger than its content"),
        (made_up, "tensor w is not plain, or larger than its content"),
        (lambda path: torch.save([1], path), "holds a list instead of named tensors"),
        (lambda path: torch.save({"w": 1}, path), "holds 'w', which is no named tensor"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"PK\3\4 no zip"), "damaged"),
        (lambda path: path.write_bytes(pickle.dumps({"w": 1})), "damaged|no named tensor"),
    ],
)
def test_pickled_files(tmp_path, make, message):
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(ValueError, match=f"^{path}: .*({message})") as error:
        load_tensors(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (2**60, b"{}"),
        (None, b"[" * 90000),
        (None, json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}})),
        (None, b"{}}"),
    ],
)
def test_safetensors(tmp_path, length, header):
    path, header = (
        tmp_path / "model.safetensors",
        header if isinstance(header, bytes) else (header.encode()),
    )
    path.write_bytes(struct.pack("<Q", length or len(header)) + header + b"\0" * 4)
    with pytest.raises(ValueError, match=f"^{path}: model.safetensors is damaged") as error:
        load_tensors(path)
    assert "\n" not in str(error.value)


def test_values_have_to_be_finite():
    check_finite({"a": torch.ones(2), "n": torch.tensor(3)}, "x.pth")
    with pytest.raises(ValueError, match="x.pth: tensor b has NaN or infinite values"):
        check_finite({"a": torch.ones(2), "b": torch.tensor([1.0, float("inf")])}, "x.pth")
