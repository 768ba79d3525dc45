"""mini_an4, whose audio comes with ESPnet 3, as data directories."""

import tarfile
from importlib import resources
from pathlib import Path

from espnet3.components.data.dataset_builder import DatasetBuilder as Builder

from espnet_prune.data.corpora import mini_an4
from espnet_prune.data.formatting import format_wav
from espnet_prune.plugin.espnet3.data_dirs import DataDir as Dataset

__all__ = ["Dataset", "DatasetBuilder"]
SETS = ("train", "valid", "test")


class DatasetBuilder(Builder):
    """Unpacks the corpus to downloads, and writes data/{train,valid,test}."""

    def is_source_prepared(self, recipe_dir, **_):
        return (Path(recipe_dir) / "downloads" / "an4").is_dir()

    def prepare_source(self, recipe_dir, **_):
        archive = resources.files("egs3.mini_an4.esp2_asr") / "downloads.tar.gz"
        with resources.as_file(archive) as path, tarfile.open(path) as packed:
            packed.extractall(recipe_dir, filter="data")

    def is_built(self, recipe_dir, **_):
        return all((Path(recipe_dir) / "data" / name / "wav.scp").is_file() for name in SETS)

    def build(self, recipe_dir, **_):
        data = Path(recipe_dir) / "data"
        mini_an4.prepare(Path(recipe_dir) / "downloads", data / "published")
        for name in SETS:
            format_wav(data / "published" / name, data / name)
