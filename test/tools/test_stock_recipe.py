"""What the benchmark of stock recipes does beside running them (see test/recipes)."""

import pytest
import soundfile
import stock_recipe

SCLITE = """
     | SPKR   | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |
     | fcaw   |    1     14 | 64.3   21.4   14.3    0.0   35.7  100.0 |
     | Sum/Avg|    2     26 | 61.5   23.1   15.4    3.8   42.3  100.0 |
     |  Mean  |  1.0   13.0 | 61.3   23.3   15.5    4.2   42.9  100.0 |
"""


@pytest.mark.parametrize("place", ["decode/test", "decode/org/test"])
def test_word_error_rates_of_sclite(place, tmp_path):
    result = tmp_path / place / "score_wer" / "result.txt"
    result.parent.mkdir(parents=True)
    result.write_text(SCLITE)
    assert stock_recipe.word_error_rates(tmp_path) == {"test": "42.3 (26 words)"}
    result.write_text("sclite: command not found")
    with pytest.raises(ValueError, match="result.txt: no sums; is sclite on PATH"):
        stock_recipe.word_error_rates(tmp_path)


def test_checkout_that_lacks_something(tmp_path):
    with pytest.raises(FileNotFoundError, match="egs2/TEMPLATE: missing; give a checkout of ESP"):
        stock_recipe.copy_recipes(tmp_path, tmp_path / "copy")


@pytest.fixture
def checkout(tmp_path):
    """As far as `copy_recipes` reads one, with a link as ESPnet's recipes have them."""
    root = tmp_path / "checkout"
    for name in stock_recipe.NEEDED:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch() if "." in place.name else place.mkdir()
    (root / "egs2" / "TEMPLATE" / "asr.sh").write_text("pwd; python3 --version; sph2pipe -f wav $1")
    (root / "egs2" / "mini_an4" / "asr1" / "asr.sh").symlink_to("../../TEMPLATE/asr.sh")
    return root


def test_copy_runs_with_this_python(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    copy = tmp_path / "copy"
    stock_recipe.copy_recipes(checkout, copy)
    stock_recipe.copy_recipes(checkout, copy)  # goes on in what is there
    soundfile.write(tmp_path / "a.sph", [0.0, 0.25], 16000, format="NIST", subtype="PCM_16")
    code = f"bash asr.sh {tmp_path / 'a.sph'} > {tmp_path / 'printed'}"
    stock_recipe.run(copy, "egs2/mini_an4/asr1", "log", "bash", "-c", code)
    where, version, wav = (tmp_path / "printed").read_bytes().split(b"\n", 2)
    assert where.decode().endswith("copy/egs2/mini_an4/asr1") and version.startswith(b"Python 3.")
    (tmp_path / "a.wav").write_bytes(wav)
    assert soundfile.read(tmp_path / "a.wav")[0].tolist() == [0.0, 0.25]
    with pytest.raises(ValueError, match="copy/log.log: false .* failed"):
        stock_recipe.run(copy, "", "log", "false", "x")
