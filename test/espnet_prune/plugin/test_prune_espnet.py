"""A trained ASR model of ESPnet: pruned, decoded, fine-tuned, packed, all by stock commands."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from espnet_prune.cli import main
from test.espnet_prune.asr_training import asr_arguments, run, run_here, write_corpus

SIZES = {"output_size": 16, "attention_heads": 2, "num_blocks": 2, "linear_units": 24}
ENCODERS = {
    "conformer": {**SIZES, "macaron_style": True, "cnn_module_kernel": 7},
    "e_branchformer": {**SIZES, "use_ffn": True, "macaron_ffn": True, "cgmlp_linear_units": 48},
}
DECODER = {
    "decoder": "transformer",
    "decoder_conf": {"attention_heads": 2, "linear_units": 16, "num_blocks": 1},
    "model_conf": {"ctc_weight": 0.5},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("corpus")
    write_corpus(directory)
    return directory


@pytest.fixture(scope="module", params=ENCODERS)
def trained(request, corpus, tmp_path_factory) -> Path:
    """Experiment directory of a dense model."""
    exp = tmp_path_factory.mktemp("exp") / "dense"
    conf = {"encoder": request.param, "encoder_conf": ENCODERS[request.param], **DECODER}
    run_here(
        "espnet2.bin.asr_train", *asr_arguments(corpus, exp, normalize="utterance_mvn", **conf)
    )
    return exp


def prune(exp: Path, name: str, corpus: Path, output: Path, *options) -> dict:
    files = ("--asr_train_config", exp / "config.yaml", "--asr_model_file", exp / name)
    argv = ["encoder", "prune", *files, corpus, "--output_dir", output, "--device", "cpu", *options]
    main([str(word) for word in argv])
    return json.loads((output / "summary.json").read_text())


def train(corpus: Path, exp: Path, config: Path, *options) -> None:
    args = asr_arguments(corpus, exp)
    args[args.index("--config") + 1] = str(config)
    run_here("espnet2.bin.asr_train", *args, *options)


def decode(corpus: Path, exp: Path, name: str) -> list[str]:
    """Hypotheses of ESPnet's own inference, which builds the model from config.yaml."""
    output = exp / "decoded"
    run_here(
        *("espnet2.bin.asr_inference", "--beam_size", "2", "--maxlenratio", "-4", "--ngpu", "0"),
        *("--data_path_and_name_and_type", f"{corpus}/wav.scp,speech,sound"),
        *("--asr_train_config", exp / "config.yaml", "--asr_model_file", exp / name),
        *("--output_dir", output),
    )
    lines = (output / "1best_recog" / "token_int").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"utt{i}" for i in range(6)]
    return lines


def sizes(file: Path) -> dict[str, tuple]:
    state = torch.load(file, weights_only=True)
    return {name: tuple(value.shape) for name, value in state.items()}


def test_from_pruning_to_the_pack(trained, corpus, tmp_path, monkeypatch):
    pruned = tmp_path / "pruned"
    summary = prune(trained, "1epoch.pth", corpus, pruned, "--target", "0.3")
    assert summary["exact"] == pytest.approx(0.3, abs=0.01)
    before, after = sizes(trained / "1epoch.pth"), sizes(pruned / "1epoch.pth")
    rest = {name: size for name, size in before.items() if not name.startswith("encoder.")}
    assert rest.items() <= after.items() and len(after) <= len(before)
    decode(corpus, pruned, "1epoch.pth")

    init = ("--init_param", pruned / "1epoch.pth", "--optim_conf", "lr=1.0e-9")
    tuned, scratch = tmp_path / "tuned", tmp_path / "scratch"
    train(corpus, tuned, pruned / "train.yaml", *init)
    train(corpus, scratch, pruned / "train.yaml")
    assert sizes(tuned / "1epoch.pth") == sizes(scratch / "1epoch.pth") == after
    states = [torch.load(d / "1epoch.pth", weights_only=True) for d in (pruned, tuned, scratch)]
    start, tuned_state, random = states
    assert all(
        torch.allclose(value.float(), start[name].float(), atol=1e-6)
        for name, value in tuned_state.items()
        if ".norm.running" not in name and "num_batches" not in name
    )
    assert any(not torch.allclose(random[n], v, atol=1e-3) for n, v in start.items() if v.dim() > 1)
    wanted = decode(corpus, tuned, "1epoch.pth")

    again = tmp_path / "again"
    smaller = prune(tuned, "1epoch.pth", corpus, again, "--target", "0.2")
    assert smaller["parameters"] < summary["parameters"] * 0.85
    assert smaller["dense_parameters"] == summary["dense_parameters"]
    decode(corpus, again, "1epoch.pth")

    pack = tmp_path / "packed.zip"
    monkeypatch.chdir(tmp_path)  # as recipes pack: names in the pack are relative then
    files = ("--asr_train_config", "tuned/config.yaml", "--asr_model_file", "tuned/1epoch.pth")
    run_here("espnet2.bin.pack", "asr", *files, "--outpath", pack)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(pack, elsewhere / "packed.zip")
    for folder in (pruned, tuned, scratch, again):
        shutil.rmtree(folder)
    code = f"""
import soundfile
from espnet2.bin.asr_inference import Speech2Text
from espnet2.main_funcs.pack_funcs import unpack
found = Speech2Text(**unpack("packed.zip", "."), beam_size=2, maxlenratio=-4)
for n in range(6):
    print("FOUND", f"utt{{n}}", *found(soundfile.read(f"{corpus}/{{n}}.wav")[0])[0][2])
"""
    lines = run("-c", code, cwd=elsewhere).stdout.splitlines()
    found = [line.removeprefix("FOUND ") for line in lines if line.startswith("FOUND")]
    assert [line.split() for line in found] == [line.split() for line in wanted]


def test_learned_gates(trained, corpus, tmp_path):
    options = ("--method", "l0", "--updates", "20", "--distill_updates", "5", "--target", "0.4")
    summary = prune(trained, "1epoch.pth", corpus, tmp_path / "pruned", *options)
    assert summary["exact"] == pytest.approx(0.4, abs=0.02)
    assert summary["distill_updates"] == 5
    decode(corpus, tmp_path / "pruned", "1epoch.pth")


def test_owsm_and_speech_translation(corpus, tmp_path):
    """Models of s2t (with OWSM's tokens) and st are pruned, and used by stock commands."""
    encoder = {"encoder": "e_branchformer", "encoder_conf": ENCODERS["e_branchformer"], **DECODER}
    symbols = ["<na>", "<eng>", "<asr>", "<notimestamps>", "<0.00>", "<30.00>"]
    tokens = ["<blank>", "<unk>", *symbols, "a", "b", "<sop>", "<sos>", "<eos>"]
    (tmp_path / "tokens.txt").write_text("\n".join(tokens) + "\n")
    (tmp_path / "symbols.txt").write_text("\n".join(symbols) + "\n")
    lines = (corpus / "text").read_text().splitlines()
    marked = [f"{line.split()[0]} <eng><asr><notimestamps>{line.split()[1]}" for line in lines]
    (tmp_path / "text").write_text("\n".join(marked) + "\n")

    def options(task: str, exp: Path, **conf) -> list[str]:
        args = asr_arguments(corpus, exp, normalize="utterance_mvn", **conf)
        if task == "st":
            for part in ("train", "valid"):
                name = f"--{part}_data_path_and_name_and_type"
                args += [name, f"{corpus}/text,src_text,text"]
            return [*args, "--src_token_list", f"{corpus}/tokens.txt", "--src_token_type", "char"]
        args = [word.replace(f"{corpus}/text", f"{tmp_path}/text") for word in args]
        args[args.index("--token_list") + 1] = str(tmp_path / "tokens.txt")
        for part in ("train", "valid"):
            for name in ("text_prev", "text_ctc"):
                args += [f"--{part}_data_path_and_name_and_type", f"{tmp_path}/text,{name},text"]
        return [*args, "--non_linguistic_symbols", str(tmp_path / "symbols.txt")]

    short = {"fs": 16000, "speech_length": 1.0, "notime_symbol": "<notimestamps>"}
    short |= {"na_symbol": "<na>", "first_time_symbol": "<0.00>", "last_time_symbol": "<30.00>"}
    quiet = {"asr_weight": 0.0, "report_bleu": False}  # which needs nltk
    confs = {"s2t": {"preprocessor_conf": short}, "st": {"model_conf": quiet}}
    for task, conf in confs.items():
        dense, pruned = tmp_path / task / "dense", tmp_path / task / "pruned"
        run_here(f"espnet2.bin.{task}_train", *options(task, dense, **(encoder | conf)))
        summary = prune(dense, "1epoch.pth", corpus, pruned, "--target", "0.3")
        assert summary["exact"] == pytest.approx(0.3, abs=0.01)
        args = options(task, tmp_path / task / "tuned")
        args[args.index("--config") + 1] = str(pruned / "train.yaml")
        run_here(f"espnet2.bin.{task}_train", *args, "--init_param", pruned / "1epoch.pth")
        assert sizes(tmp_path / task / "tuned" / "1epoch.pth") == sizes(pruned / "1epoch.pth")
        run_here(
            *(f"espnet2.bin.{task}_inference", "--beam_size", "2", "--maxlenratio", "-4"),
            *(f"--{task}_train_config", pruned / "config.yaml"),
            *(f"--{task}_model_file", pruned / "1epoch.pth", "--ngpu", "0"),
            *("--data_path_and_name_and_type", f"{corpus}/wav.scp,speech,sound"),
            *("--output_dir", tmp_path / task / "decoded"),
        )
        found = (tmp_path / task / "decoded" / "1best_recog" / "token").read_text()
        assert len(found.splitlines()) == 6


def test_an_ssl_model_is_a_frontend_again(corpus, tmp_path):
    """A model of ESPnet's SSL task, in XEUS's form, is pruned, and ASR is trained on it."""
    from espnet2.tasks.ssl import SSLTask

    args = SSLTask.get_parser().parse_args(["--output_dir", str(tmp_path / "dense")])
    sizes = {"output_size": 16, "attention_heads": 2, "num_blocks": 2, "linear_units": 24}
    form = {"input_layer": None, "pos_enc_layer_type": "conv", "attention_layer_type": "selfattn"}
    layers = {"cgmlp_linear_units": 48, "use_ffn": True, "macaron_ffn": True}
    cnn = {"norm_mode": "layer_norm", "conv_mode": "standard", "bias": True}
    shapes = [[8, 10, 5], [8, 3, 2], [8, 3, 2], [8, 3, 2], [8, 3, 2], [8, 2, 2], [8, 2, 2]]
    vars(args).update(
        encoder="e_branchformer",
        encoder_conf={**sizes, **form, **layers},
        frontend_conf={**cnn, "shapes": shapes},
        preencoder_conf={"output_size": 16},
        token_list=["a", "b"],
        loss=[{"name": "hubert", "conf": {"num_classes": 2, "final_dim": 4}}],
        util=[{"name": "mask", "conf": {}}],
    )
    torch.manual_seed(0)
    model = SSLTask.build_model(args)
    (tmp_path / "dense").mkdir()
    torch.save(model.state_dict(), tmp_path / "dense" / "xeus.pth")
    (tmp_path / "dense" / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    summary = prune(tmp_path / "dense", "xeus.pth", corpus, tmp_path / "pruned", "--target", "0.3")
    assert summary["exact"] == pytest.approx(0.3, abs=0.02)

    frontend = {"frontend_conf": {"path_or_url": str(tmp_path / "pruned" / "xeus.pth")}}
    conf = {"frontend": "espnet_ssl", "frontend_conf": frontend, "normalize": None}
    small = {"encoder": "transformer", "encoder_conf": {**sizes, "input_layer": "linear"}}
    run_here("espnet2.bin.asr_train", *asr_arguments(corpus, tmp_path / "asr", **conf, **small))
    decode(corpus, tmp_path / "asr", "1epoch.pth")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"encoder": "rnn"}, (), "config.yaml: encoder: rnn cannot be pruned, only one of transf"),
        ({"encoder_conf": {"ctc_trim": True}}, (), "encoder_conf: ctc_trim: true: such encoders"),
        ({"input_size": 80}, (), "input_size: the model reads features instead of audio"),
        ({}, ("--target", "0.99"), "target 0.99 cannot be reached, at most 0."),
        ({}, ("--method", "l0", "--updates", "0"), "--updates: '0' is no whole number from 1 on"),
        ({}, ("--layout", "stock"), "--layout stock is for Whisper; give free or equal"),
        ({}, ("--asr_model_file", "no.pth"), "no.pth: no such file; train first"),
    ],
)
def test_errors(corpus, tmp_path, trained, change, options, message, capsys):
    from espnet_prune.plugin import prune_espnet

    exp = tmp_path / "exp"
    shutil.copytree(trained, exp)
    if change:  # what ESPnet itself would build is not the point
        config = yaml.safe_load((exp / "config.yaml").read_text())
        with pytest.raises(ValueError, match="config.yaml") as error:
            prune_espnet.check_config({**config, **change}, exp / "config.yaml")
        assert message in str(error.value)
        return
    with pytest.raises(SystemExit):
        prune(exp, "1epoch.pth", corpus, tmp_path / "out", *options)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_of_another_model(corpus, tmp_path, trained, capsys):
    state = torch.load(trained / "1epoch.pth", weights_only=True)
    del state["encoder.after_norm.weight" if "encoder.after_norm.weight" in state else "x"]
    torch.save(state, tmp_path / "lacking.pth")
    argv = ["--asr_train_config", trained / "config.yaml"]
    argv += ["--asr_model_file", tmp_path / "lacking.pth", corpus, "--output_dir", tmp_path / "out"]
    with pytest.raises(SystemExit):
        main(["encoder", "prune", *map(str, argv)])
    assert "lacks tensors encoder.after_norm.weight: damaged" in capsys.readouterr().err


def test_output_directory_that_is_in_use(corpus, tmp_path, trained, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        prune(trained, "1epoch.pth", corpus, tmp_path)
    assert f"{tmp_path}: is there already: give a directory" in capsys.readouterr().err


def test_help_of_either_way(capsys):
    with pytest.raises(SystemExit):
        main(["encoder", "prune", "data", "--output_dir", "out"])
    assert "give a model and audio, or --asr_train_config" in capsys.readouterr().err
