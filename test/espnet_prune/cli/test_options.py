import argparse

import pytest

from espnet_prune.cli.options import KeyValues, above_zero, fill_from_config, whole


def parse(tmp_path, text, *given):
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=type(tmp_path))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--conf", action=KeyValues)
    (tmp_path / "c.yaml").write_text(text)
    args = parser.parse_args([*given, "--config", str(tmp_path / "c.yaml")])
    fill_from_config(args)
    return args


def test_the_command_line_goes_before_the_config(tmp_path):
    text = "seed: 1\nconf: {model: a, device: cuda}"
    args = parse(tmp_path, text, "--seed", "0", "--conf", "model=b", "--conf", "rate=0.5")
    assert args.seed == 0 and args.conf == {"model": "b", "device": "cuda", "rate": 0.5}
    args = parse(tmp_path, text, "--conf", "{model: b, dtype: x=y}")
    assert args.seed == 1 and args.conf == {"model": "b", "device": "cuda", "dtype": "x=y"}
    assert parse(tmp_path, "", "--conf", "model=").conf == {"model": ""}


def test_what_cannot_be_read(tmp_path, capsys):
    with pytest.raises(ValueError, match="c.yaml: unknown option 'sede'"):
        parse(tmp_path, "sede: 1")
    for text, message in (("a", "neither KEY=VALUE nor a mapping"), ("a=[", "is not YAML")):
        with pytest.raises(SystemExit):
            parse(tmp_path, "", "--conf", text)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-1", "1.5", "nan", "", "9" * 30, "x"])
def test_numbers_out_of_range(value):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{value}' is no whole number from 0 on"):
        whole(0)(value)
    assert whole(1)("7") == 7
    if value not in ("1.5", "9" * 30):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{value}' is no number above 0"):
            above_zero(value)
