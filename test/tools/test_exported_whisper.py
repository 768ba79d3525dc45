import json

import pytest
from exported_whisper import main

from espnet_prune.structured import load_encoder
from espnet_prune.structured.export.ctranslate2 import export_ctranslate2
from test.espnet_prune.evaluate.test_whisper_decoding import data_dir as data_dir  # a fixture
from test.espnet_prune.whispers import make_teacher

pytest.importorskip("faster_whisper")
TOKENS = [
    f"<|{name}|>" for name in ("transcribe", "translate", "startoflm", "startofprev", "nospeech")
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    teacher = make_teacher(folder / "teacher", d_model=32, full=True, tokens=TOKENS)
    export_ctranslate2(load_encoder(teacher), teacher, folder / "engine")
    return folder / "engine"


def test_a_table_of_two_types(exported, data_dir, tmp_path, capsys):  # noqa: F811
    words = [f"utt{i} a b c" for i in range(5)]
    (data_dir / "text").write_text("\n".join(words) + "\n")
    models = [
        "--model",
        "exact",
        str(exported),
        "float32",
        "--model",
        "small",
        str(exported),
        "int8",
    ]
    hyp = ["--hyp", "exact", str(data_dir / "text")]
    options = [
        "--data_dir",
        str(data_dir),
        "--threads",
        "1",
        "--output",
        str(tmp_path / "out.json"),
    ]
    main([*models, *hyp, *options])
    printed = capsys.readouterr().out
    assert "| exact, float32" in printed and "| 1.00x" in printed and "of 5" in printed
    found = json.loads((tmp_path / "out.json").read_text())["models"]
    assert set(found) == {"exact", "small"} and len(found["small"]["seconds"]) == 5
    with pytest.raises(SystemExit):
        main([*models, "--hyp", "other", "x", *options])
    assert "error: --hyp other: there is no --model of that name" in capsys.readouterr().err
