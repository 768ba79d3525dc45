"""Unmodified recipes of ESPnet with the plugins, from data to the use of a pack elsewhere.

ESPNET_CHECKOUT names a checkout of ESPnet, of the installed version; its egs, egs2 and tools do.
asr1 of mini_an4 is ESPnet's; it has no cls1 there, so that ESPnet's setup.sh makes one, whose data
are asr1's with the speaker's sex (the first letter of an AN4 speaker) as the class.
"""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
import stock_recipe
import yaml

from espnet_prune.structured import load_encoder
from espnet_prune.structured.baselines import prune_at_random
from espnet_prune.structured.encoder_directory import write_encoder
from test.espnet_prune.tiny import saved

CHECKOUT = os.environ.get("ESPNET_CHECKOUT", "")
pytestmark = [
    pytest.mark.recipe,
    pytest.mark.skipif(not CHECKOUT, reason="ESPNET_CHECKOUT names no checkout of ESPnet"),
    pytest.mark.skipif(
        importlib.util.find_spec("resampy") is None, reason="the extra stock-recipes is not there"
    ),
    pytest.mark.skipif(shutil.which("sclite") is None, reason="no sclite (Debian's sctk)"),
]
ASR, CLS = "egs2/mini_an4/asr1", "egs2/mini_an4/cls1"
SETS = ("--train_set", "train_nodev", "--valid_set", "train_dev", "--test_sets", "test")
#: config below the plugin's `model`; options that are only there for a short training
TRAINING = {"max_epoch": 1, "batch_type": "unsorted", "batch_size": 2, "num_workers": 0}
SMALL = {"output_size": 8, "attention_heads": 2, "num_blocks": 1, "linear_units": 8}
PLUGINS = {
    "frontend": {"frontend": "pruned_ssl", "encoder": "transformer", "encoder_conf": SMALL},
    "encoder": {"frontend": None, "input_size": 1, "encoder": "pruned_ssl", "specaug": None},
}
DATA = """#!/bin/sh
# Classes of the sex of speakers, from the data of asr1; the first argument is the data directory.
for x in train_nodev train_dev test; do
    mkdir -p $1/$x
    cp ../asr1/data/$x/wav.scp ../asr1/data/$x/utt2spk ../asr1/data/$x/spk2utt $1/$x
    awk '{print $1, substr($1, 1, 1)}' ../asr1/data/$x/text > $1/$x/text
done
ln -sfn ../asr1/downloads downloads
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory, warm_python) -> Path:
    """A copy of the recipes with prepared data."""
    directory = tmp_path_factory.mktemp("espnet")
    stock_recipe.copy_recipes(Path(CHECKOUT), directory)
    run(directory, ASR, "asr.data", "./run.sh", 1, 5, "--use_lm", "false", "--token_type", "char")
    setup = "egs2/TEMPLATE/cls1/setup.sh"
    stock_recipe.run(directory, "", "cls.setup", "bash", setup, CLS)
    data = directory / CLS / "local" / "data.sh"
    data.write_text(DATA)
    data.chmod(0o755)
    run(directory, CLS, "cls.data", "./cls.sh", 1, 4, *SETS)
    return directory


def run(tree: Path, recipe: str, log: str, script: str, first: int, last: int, *options) -> str:
    span = ("--stage", first, "--stop_stage", last, "--python", stock_recipe.RUN, "--ngpu", 0)
    return stock_recipe.run(tree, recipe, log, script, *span, "--nj", 1, *options)


def config(tree: Path, recipe: str, plugin: str, **more) -> Path:
    """A config whose `model` is a pruned encoder in a directory that is returned."""
    model = tree / recipe / f"pruned_{plugin}"
    dense = load_encoder(saved("wavlm-base", tree / recipe / "dense"))
    write_encoder(prune_at_random(dense, 0.3)[0], model)
    conf = {**TRAINING, **PLUGINS[plugin], **more, f"{plugin}_conf": {"model": model.name}}
    text = yaml.safe_dump(conf)
    (tree / recipe / "conf" / f"{plugin}.yaml").write_text(text)
    return model


def check(exp: Path, plugin: str) -> None:
    """What config.yaml of a training says."""
    found = yaml.safe_load((exp / "config.yaml").read_text())
    assert found[f"{plugin}_conf"]["structure"]["kept"]
    assert (found["normalize"] is None) == (plugin == "encoder")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_asr(tree, plugin):
    decoder = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1}
    model = config(tree, ASR, plugin, decoder="transformer", decoder_conf=decoder)
    options = ("--use_lm", "false", "--token_type", "char", "--asr_tag", plugin)
    options += ("--asr_config", f"conf/{plugin}.yaml", "--inference_nj", 1)
    options += ("--inference_args", "--maxlenratio -5 --beam_size 2")
    run(tree, ASR, f"asr.{plugin}.training", "./run.sh", 10, 11, *options)
    exp = tree / ASR / "exp" / f"asr_{plugin}"
    check(exp, plugin)
    shutil.rmtree(model)
    packing = (*options, "--skip_packing", "false")
    printed = run(tree, ASR, f"asr.{plugin}", "./run.sh", 12, 14, *packing)
    assert "|decode_asr" in printed and "Generate: " in printed
    (pack,), (decoded,) = exp.glob("*.zip"), exp.glob("*/test/text")
    said = {"maxlenratio": -5.0, "beam_size": 2}
    audio = stock_recipe.audio_of(tree / ASR, "dump/raw/test")
    found = stock_recipe.use_elsewhere(tree, pack, audio, **said)
    assert found == decoded.read_text().split() and len(audio) == 2


@pytest.mark.parametrize("plugin", PLUGINS)
def test_cls(tree, plugin):
    model = config(tree, CLS, plugin, decoder="linear")
    options = (*SETS, "--cls_config", f"conf/{plugin}.yaml", "--inference_nj", 1)
    options += ("--cls_tag", plugin, "--skip_upload", "false", "--feats_normalize", "global_mvn")
    run(tree, CLS, f"cls.{plugin}.training", "./cls.sh", 5, 6, *options)
    exp = tree / CLS / "exp" / f"cls_{plugin}"
    check(exp, plugin)
    shutil.rmtree(model)
    printed = run(tree, CLS, f"cls.{plugin}", "./cls.sh", 7, 9, *options)
    assert "Generate: " in printed
    (pack,) = exp.glob("*.zip")
    audio = stock_recipe.audio_of(tree / CLS, "dump/test")
    found = stock_recipe.use_elsewhere(tree, pack, audio, "cls")
    decoded = (exp / "cls_test" / "text").read_text().split()
    assert found == decoded and set(found[1::2]) <= {"f", "m"}
