"""The recipe from its first stage to its last, on a stand-in of LibriSpeech and a tiny WavLM."""

import functools
import itertools
import json
from pathlib import Path

import pytest
import yaml

from espnet_prune.plugin.training_config import SIZES
from espnet_prune.structured import load_encoder
from test.espnet_prune.stand_in import librispeech
from test.espnet_prune.tiny import CLASSES, saved
from test.recipes.running import EGS2, run_recipe

RECIPE = EGS2 / "librispeech" / "ssl_prune1"
run = functools.partial(run_recipe, RECIPE)
CONFIGS = sorted((RECIPE / "conf").glob("*.yaml"))


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_all_stages(tmp_path):
    corpus = librispeech(tmp_path / "corpus")
    teacher = saved("wavlm-base", tmp_path / "tiny")
    options = ["--debug", "true", "--teacher", str(teacher), "--target", "0.5"]
    options += ["--expdir", str(tmp_path / "exp"), "--dumpdir", str(tmp_path / "dump")]
    printed = run(*options, LIBRISPEECH=str(corpus))
    assert "train-other-500: has 4 utterances instead of the published 148688" in printed
    for stage in range(1, 12):
        assert f"Stage {stage}: " in printed

    exp = tmp_path / "exp" / "ssl_prune_prune_tiny_960h_l0_0.5"
    results = (exp / "RESULTS.md").read_text()
    for name in ("test_clean", "test_other"):
        assert f"CTC ASR on the frozen encoder, {name} (4 utterances)" in results
    assert "Whisper" not in results
    for figure in ("pruned/kept.png", "prune/images/course.png", "gates.png"):
        assert f"]({figure})" in results and (exp / figure).is_file()
    summary = json.loads((exp / "slim" / "summary.json").read_text())
    assert summary["exact"] == pytest.approx(0.5, abs=0.02)
    pruned = load_encoder(exp / "pruned")
    assert pruned.family == "wavlm"
    assert sum(p.numel() for p in pruned.parameters()) == summary["parameters"]

    # Two forward passes make an update
    for phase in ("prune", "distill"):
        updates = [row["update"] for row in rows(exp / phase / "updates.jsonl")]
        assert updates == [0, 0, 1, 1, 2, 2, 3, 3]
        assert [row["update"] for row in rows(exp / phase / "valid.jsonl")] == [2, 4]
        config = yaml.safe_load((exp / phase / "config.yaml").read_text())
        assert config["crop_seconds"] == 1.5 and config["use_amp"]
        assert config["train_data_path_and_name_and_type"][0][0].endswith("raw/train_960/wav.scp")
    asr = yaml.safe_load(next(exp.glob("asr_*/config.yaml")).read_text())
    assert asr["frontend_conf"]["model"] == str(exp / "pruned")
    data = {Path(path).parent.name for path, *_ in asr["train_data_path_and_name_and_type"]}
    assert data == {"train_clean_100"}


@pytest.mark.recipe
@pytest.mark.timeout(1500)
def test_a_target_in_latency(tmp_path):
    """Asked for with --prune_args, which all stages heed: the table is made in stage 3 and serves
    training, slimming (also to a target on the way) and the baselines."""
    corpus = librispeech(tmp_path / "corpus")
    teacher = saved("wavlm-base", tmp_path / "tiny")
    options = ["--debug", "true", "--teacher", str(teacher), "--target", "0.3"]
    options += ["--expdir", str(tmp_path / "exp"), "--dumpdir", str(tmp_path / "dump")]
    options += ["--latency_args", "--seconds 1 --repeats 1 --threads 1", "--stop_stage", "5"]
    asked = "--pruning_conf cost=latency --pruning_conf targets=[0.0001]"
    options += ["--prune_args", f"{asked} --pruning_conf init=3.0 --crop_seconds null"]
    run(*options, "--prune_tag", "l0", "--teacher_cache", "true", LIBRISPEECH=str(corpus))
    assert any((tmp_path / "exp" / "teacher_cache").iterdir())
    table = next((tmp_path / "exp").glob("latency_*/table.json"))
    assert json.loads(table.read_text())["measured_with"]["threads"] == 1
    later = functools.partial(run, *options, "--stage", "5", LIBRISPEECH=str(corpus))
    later("--method", "random", "--prune_tag", "random")
    for method, name in (("l0", "slim"), ("l0", "slim_0.0001"), ("random", "slim")):
        exp = tmp_path / "exp" / f"ssl_prune_{method}"
        summary = json.loads((exp / name / "summary.json").read_text())
        assert (summary["cost"], summary["latency_table"]) == ("latency", str(table))
        share = summary["latency_seconds"] / summary["dense_latency_seconds"]
        assert 1 - share == pytest.approx(summary["exact"])
        assert summary["target"] == (0.0001 if name == "slim_0.0001" else 0.3)

    # A student from scratch is named after its own size, not after --target
    like = tmp_path / "exp/ssl_prune_l0/slim"
    later("--method", "scratch", "--like", str(like), "--prune_args", "")
    summary = json.loads((like / "summary.json").read_text())
    share = round(1 - summary["parameters"] / summary["dense_parameters"], 2)
    scratch = tmp_path / "exp" / f"ssl_prune_prune_tiny_960h_scratch_{share:g}"
    found = json.loads((scratch / "slim/summary.json").read_text())
    assert found["parameters"] == summary["parameters"]

    # A table of the user's serves a config with this cost
    config = yaml.safe_load((RECIPE / "conf" / "prune_base.yaml").read_text())
    config["pruning_conf"]["cost"] = "latency"
    (tmp_path / "latency.yaml").write_text(yaml.safe_dump(config))
    options += ["--prune_config", str(tmp_path / "latency.yaml"), "--stage", "4"]
    options += ["--prune_args", f"--pruning_conf latency_table={table}", "--stop_stage", "4"]
    run(*options, LIBRISPEECH=str(corpus))


@pytest.mark.recipe
def test_wrong_options(tmp_path):
    assert "--train_hours is '5', choose 960 or 100" in run("--train_hours", "5", expect=2)
    assert "--debug takes true or false, not 'x'" in run("--debug", "x", expect=2)
    assert "option --teacher wants a value" in run("--teacher", expect=2)
    assert "no config for this hub name" in run("--teacher", "some/model", expect=1)
    shown = run("--help")
    assert "--train_hours [960]" in shown and "--num_nodes [1]" in shown
    options = ["--expdir", str(tmp_path), "--stop_stage", "1"]
    assert "Fill the value of 'LIBRISPEECH' of template/common/db.sh" in run(
        *options, expect=1, LIBRISPEECH=""
    )
    assert "error: unknown option --bogus" in run(*options, "--bogus", "1", expect=2)
    options += ["--train_hours", "100", "--ngpu", "4", "--num_nodes", "2"]
    run(*options, expect=1, LIBRISPEECH="")
    spread = yaml.safe_load((tmp_path / "conf" / "prune_wavlm_base_plus_100h.yaml").read_text())
    assert (spread["accum_grad"], spread["batch_bins"]) == (1, 640 * 16000)


@pytest.mark.recipe
def test_a_config_for_each_model():
    names = {path.stem for path in CONFIGS}
    assert {f"prune_{size}" for size in SIZES.values()} <= names
    for path in CONFIGS:
        config = yaml.safe_load(path.read_text())
        if path.stem.startswith(("prune", "distill")):  # the schedule ends with the training
            updates = config["max_epoch"] * config["num_iters_per_epoch"] / config["accum_grad"]
            assert updates == config["scheduler_conf"]["max_steps"], path.stem


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Narrow models of each family with as many layers as Base and Large."""
    folder = tmp_path_factory.mktemp("teachers")
    directories = {}
    for family, (size, layers) in itertools.product(CLASSES, (("base", 12), ("large", 24))):
        make, kind = CLASSES[family]
        large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
        config = make(
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=8,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            **(large if size == "large" else {}),
        )
        name = f"{family}_{size}"
        directories[name] = folder / name
        kind(config).save_pretrained(directories[name])
    return directories


#: Each config with each family that it serves.
CASES = [
    (config, family)
    for config in CONFIGS
    for family in (CLASSES if config.stem.startswith("prune") else ["wavlm"])
    if config.stem.startswith(("prune", "distill"))
]


@pytest.mark.recipe
@pytest.mark.parametrize(("config", "family"), CASES, ids=lambda x: getattr(x, "stem", x))
def test_configs_of_pruning_are_valid(config, family, teachers, tmp_path):
    """ESPnet's dry run builds model, optimiser and scheduler from the YAML and stops."""
    from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask

    teacher = teachers[f"{family}_{config.stem.rpartition('_')[2]}"]
    args = ["--config", str(config), "--teacher", str(teacher)]
    args += ["--dry_run", "true", "--iterator_type", "none", "--output_dir", str(tmp_path)]
    SSLPruneTask.main(cmd=args)
    assert (tmp_path / "config.yaml").is_file()
    assert load_encoder(teacher).family == family
