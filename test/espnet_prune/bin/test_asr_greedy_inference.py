"""Greedy CTC decoding: the collapsing by hand, and the command on a tiny model of ESPnet's."""

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_prune.bin.asr_greedy_inference import best_path, main, transcribe


@pytest.mark.parametrize(
    ("frames", "tokens"),
    [
        ([], []),
        ([0, 0], []),
        ([3, 3, 0, 3, 2, 2], [3, 3, 2]),
        ([9, 3, 9, 3], [3, 3]),  # a left-out token divides as a blank does
    ],
)
def test_best_path(frames, tokens):
    assert best_path(frames, {0, 9}) == tokens


class Model:
    """Says the tokens that its "audio" names: frame t of an utterance is sample t."""

    blank_id, sos, eos = 0, 9, 9

    class ctc:
        argmax = staticmethod(lambda hidden: hidden)

    def encode(self, speech, lengths):
        return speech.long(), lengths


def test_frames_beyond_an_utterance_do_not_count():
    speech = torch.tensor([[1.0, 1, 0, 1], [2, 9, 5, 5]])
    assert transcribe(Model(), speech, torch.tensor([4, 2])) == [[1, 1], [2]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny):
    """Directory of an untrained ASR model whose output layer prefers one token."""
    from espnet2.tasks.asr import ASRTask

    from espnet_prune.plugin.registry import register

    register()
    folder = tmp_path_factory.mktemp("asr")
    (folder / "tokens.txt").write_text("<blank>\n<unk>\nHH\nAY1\n<sos/eos>\n")
    ASRTask.main(
        cmd=f"""--frontend pruned_ssl --frontend_conf model={tiny["wavlm"]} --normalize none
        --encoder frame_probe --encoder_conf project_size=4 --model_conf ctc_weight=1.0
        --token_type word --token_list {folder / "tokens.txt"} --dry_run true --iterator_type none
        --output_dir {folder}""".split()
    )
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["encoder"] == "frame_probe"
    model, _ = ASRTask.build_model_from_file(folder / "config.yaml")
    model.frontend.pretrained.complete()  # no checkpoint has brought its weights
    with torch.no_grad():
        model.ctc.ctc_lo.weight.zero_()
        model.ctc.ctc_lo.bias.copy_(torch.tensor([0.0, 0, 0, 1, 0]))
    torch.save(model.state_dict(), folder / "model.pth")
    lines = []
    for n in range(2):
        soundfile.write(folder / f"{n}.wav", np.random.default_rng(n).normal(size=8000) / 9, 16000)
        lines.append(f"utt{n} {folder / f'{n}.wav'}\n")
    (folder / "wav.scp").write_text("".join(lines))
    return folder


def options(folder, **others):
    given = {
        "asr_train_config": folder / "config.yaml",
        "asr_model_file": folder / "model.pth",
        "data_path_and_name_and_type": f"{folder / 'wav.scp'},speech,sound",
        **others,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def test_command(trained, tmp_path):
    main(options(trained, output_dir=tmp_path))
    assert (tmp_path / "1best_recog/text").read_text() == "utt0 AY1\nutt1 AY1\n"
    (tmp_path / "keys").write_text("utt1 anything\n")
    main(options(trained, output_dir=tmp_path / "part", key_file=tmp_path / "keys"))
    assert (tmp_path / "part/1best_recog/text").read_text() == "utt1 AY1\n"


def test_missing_weights(trained, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(options(trained, output_dir=tmp_path, asr_model_file=tmp_path / "none.pth"))
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.pth'}: no such file; train first\n"
