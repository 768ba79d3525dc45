"""Every config of a training on a frozen encoder: ESPnet's dry run builds model, optimiser and
scheduler from the YAML and stops."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from espnet_prune.plugin.registry import register
from test.espnet_prune.tiny import saved
from test.recipes.running import EGS2

TASKS = {"asr": "ASRTask", "cls": "CLSTask", "diar": "DiarizationTask", "spk": "SpeakerTask"}
# Some recipes share one
CONFIGS = sorted(
    {
        path.resolve()
        for path in EGS2.glob("*/*/conf/*.yaml")
        if yaml.safe_load(path.read_text()).get("frontend") == "pruned_ssl"
    }
)


def task_of(config: Path) -> str:
    """ESPnet's task of a recipe; ssl_prune1's downstream task is ASR."""
    found = re.search(r"--espnet_task (\w+)", (config.parents[1] / "run.sh").read_text())
    return found[1] if found else "asr"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    return saved("wavlm-base", tmp_path_factory.mktemp("upstream") / "tiny")


def given_by_the_recipe(task: str, config: dict, folder: Path) -> list[str]:
    """The options that depend on data or encoder, which are not in the YAML."""
    if task == "asr":
        (folder / "tokens.txt").write_text("<blank>\n<unk>\nA\n<sos/eos>\n")
        options = ["--token_list", str(folder / "tokens.txt"), "--token_type", "char"]
        if config.get("preencoder") == "linear":
            options += ["--preencoder_conf", "input_size=24"]  # that of the tiny encoder
        return options
    if task == "cls":
        (folder / "labels.txt").write_text("A+C\nA+D\nB+C\nB+D\n<unk>\n")
        options = ["--token_list", str(folder / "labels.txt")]
        if config["decoder"] == "slots":
            options += ["--decoder_conf", "slot_sizes=[2,2]"]
        return options
    if task == "spk":
        (folder / "spk2utt").write_text("a a-1 a-2\nb b-1 b-2\n")
        return ["--spk2utt", str(folder / "spk2utt"), "--spk_num", "2"]
    return []


@pytest.mark.recipe
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join((*c.parts[-4:-2], c.stem)))
def test_config_is_valid(config, upstream, tmp_path):
    task = task_of(config)
    register()
    module = importlib.import_module(f"espnet2.tasks.{task}")
    args = ["--config", str(config), "--frontend_conf", f"model={upstream}"]
    args += ["--frontend_conf", "fs=16k", "--dry_run", "true", "--iterator_type", "none"]
    args += given_by_the_recipe(task, yaml.safe_load(config.read_text()), tmp_path)
    getattr(module, TASKS[task]).main(cmd=[*args, "--output_dir", str(tmp_path)])
    assert (tmp_path / "config.yaml").is_file()


@pytest.mark.recipe
def test_lengths_of_the_protocol():
    """Updates of SUPERB's protocol (facts of the papers), counted as ESPnet trains."""
    updates = {}
    for config in CONFIGS:
        if config.stem in ("train_probe", "train_asv", "train_sd"):
            conf = yaml.safe_load(config.read_text())
            batches = conf["max_epoch"] * conf["num_iters_per_epoch"]
            accum = conf.get("accum_grad", 1)
            per_update = accum * conf["batch_size"]
            updates["/".join(config.parts[-4:-2])] = (batches / accum, per_update)
    wanted = {
        "librispeech/superb_pr1": (100_000, 32),
        "librispeech/superb_asr1": (200_000, 32),
        "speechcommands/superb_ks1": (200_000, 32),
        "voxceleb1/superb_sid1": (200_000, 32),
        "voxceleb1/superb_asv1": (200_000, 50),
        "librimix/superb_sd1": (30_000, 32),
        "fsc/superb_ic1": (200_000, 32),
        "snips/superb_sf1": (200_000, 32),
        "iemocap/superb_er1": (30_000, 32),
    }
    assert {recipe: updates[recipe] for recipe in wanted} == wanted
