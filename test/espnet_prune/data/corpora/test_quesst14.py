import shutil

import pytest

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.quesst14 import prepare
from test.espnet_prune.commands import error_of
from test.espnet_prune.stand_in_speakers import quesst14


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return quesst14(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def corpus(untouched, tmp_path):
    """A stand-in that a test may break."""
    return shutil.copytree(untouched, tmp_path / "corpus")


def test_english_only(corpus, tmp_path):
    assert prepare(corpus, tmp_path / "data") == {"documents": 6, "dev": 2, "eval": 2}
    for name in ("documents", "dev", "eval"):
        assert data_dir.validate(tmp_path / "data" / name, need_text=False) == []
    scp = data_dir.read_table(tmp_path / "data" / "dev" / "wav.scp")
    root = corpus / "quesst14Database"
    assert scp["quesst14_dev_0001"] == str(root / "dev_queries" / "quesst14_dev_0001.wav")
    # The Czech document holds all queries, but is not searched
    assert data_dir.read_table(tmp_path / "data" / "eval" / "ref") == {
        "quesst14_eval_0000": "quesst14_00005",
        "quesst14_eval_0001": "quesst14_00004",
    }


def test_several_and_no_documents(corpus, tmp_path):
    root = corpus / "quesst14Database"
    path = root / "scoring" / "groundtruth_quesst14_dev" / "quesst14_dev.rttm"
    lines = [line for line in path.read_text().splitlines() if "dev_0001" not in line]
    lines.append("LEXEME quesst14_00003 1 0.1 0.2 quesst14_dev_0000 lex <NA> <NA>")
    path.write_text("\n".join(lines))
    prepare(root, tmp_path / "data")  # the folder itself does, too
    ref = (tmp_path / "data" / "dev" / "ref").read_text()
    assert ref == "quesst14_dev_0000 quesst14_00000 quesst14_00003\nquesst14_dev_0001\n"


def test_a_truncated_list(corpus, tmp_path, caplog):
    """Of the documents; what they held is no longer found."""
    root = corpus / "quesst14Database"
    prepare(corpus, tmp_path / "whole")
    assert not caplog.records
    path = root / "scoring" / "language_key_utterances.lst"
    path.write_text("\n".join(path.read_text().splitlines()[:5]))
    assert prepare(corpus, tmp_path / "data") == {"documents": 5, "dev": 2, "eval": 2}
    (record,) = caplog.records
    assert f"{path}: has 5 recordings, but {root / 'Audio'} has 7; " in record.getMessage()


def test_broken_corpora(corpus, tmp_path, capsys):
    def error():
        return error_of(capsys, "corpus", "quesst14", str(corpus), str(tmp_path / "data"))

    scoring = corpus / "quesst14Database" / "scoring"
    truth = scoring / "groundtruth_quesst14_eval" / "quesst14_eval.rttm"
    text = truth.read_text()
    truth.write_text(text.replace("quesst14_eval", "other"))
    assert f"{truth}: no document of language nnenglish holds any query" in error()
    truth.write_text(text.replace(" 0.2 0.5 ", " ").replace(" lex <NA> <NA>", ""))
    assert f"{truth}: line 2: not 'LEXEME document … query …'" in error()
    truth.write_text(text.splitlines()[0])
    assert f"{truth}: has no line of type LEXEME" in error()
    truth.unlink()
    assert f"{truth}: no such file; unpack quesst14Database.tgz again" in error()
    truth.write_text(text)
    path = scoring / "language_key_dev.lst"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]))
    assert "dev: quesst14_dev_0000 is there twice" in error()
    path.write_text(lines[0].split()[0])
    assert f"{path}: line 1: not 'path language'" in error()
    path.write_text(lines[-1])
    assert "dev would be empty" in error()
    path.unlink()
    assert f"{path}: no such file; unpack quesst14Database.tgz again" in error()
    path.write_text("\n".join(lines))
    wav = corpus / "quesst14Database" / "Audio" / "quesst14_00002.wav"
    wav.unlink()
    assert f"{wav}: no such file (1 of the 6 of documents are missing)" in error()
    shutil.rmtree(scoring)
    assert f"{corpus}: has no quesst14Database/scoring; unpack" in error()
    shutil.rmtree(corpus)
    assert f"{corpus}: no such directory; QUESST14 of db.sh names it" in error()
