from argparse import Namespace

import transformers
from digits_ctc import main

from espnet_prune.structured import load_encoder
from test.espnet_prune.small_corpora import fsdd


def test_a_table_of_both_test_sets(tmp_path, capsys):
    """Two updates on noise; a second call trains and prunes nothing."""
    corpus = fsdd(tmp_path / "corpus", ("george", "nicolas"))
    args = Namespace(corpus=corpus, work_dir=tmp_path / "work", updates=2, target=0.4)
    main(args)
    shown = capsys.readouterr().out
    *_, head, _, dense, pruned, less = shown.strip().splitlines()
    assert "WER %, seen speakers (10)" in head and "CER %, unseen speaker (30)" in head
    assert all(len(row.split("|")) == len(head.split("|")) for row in (dense, pruned, less))
    whole = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path / "work/dense")
    left = load_encoder(tmp_path / "work/pruned").num_parameters()
    assert 0.55 < left / whole.wav2vec2.num_parameters() < 0.65
    files = {path: path.stat().st_mtime_ns for path in args.work_dir.rglob("*.safetensors")}
    main(args)
    assert capsys.readouterr().out.strip().splitlines()[-5:] == shown.strip().splitlines()[-5:]
    assert files == {path: path.stat().st_mtime_ns for path in files}
