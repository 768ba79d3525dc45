import shutil

import pytest

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from espnet_prune.data.corpora.librispeech import (
    missing_words,
    phones_of,
    prepare_superb,
    read_lexicon,
)
from test.espnet_prune import stand_in
from test.espnet_prune.commands import error_of


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    corpus = stand_in.librispeech(tmp_path_factory.mktemp("corpus"), utterances=2, seconds=0.1)
    for name in ("train-clean-360", "train-other-500", "dev-other", "test-other"):
        shutil.rmtree(corpus / "LibriSpeech" / name)  # SUPERB needs none of them
    return corpus


@pytest.fixture
def corpus(untouched, tmp_path):
    """A stand-in that a test may break."""
    return shutil.copytree(untouched, tmp_path / "corpus")


@pytest.fixture
def lexicon(tmp_path):
    return stand_in.lexicon(tmp_path / "lexicon.txt")


def test_words(corpus, tmp_path):
    numbers = prepare_superb(corpus, tmp_path / "data")
    assert numbers == {"train_clean_100": 4, "dev_clean": 4, "test_clean": 4}
    for name in numbers:
        assert data_dir.validate(tmp_path / "data" / name) == []
    text = data_dir.read_table(tmp_path / "data/test_clean/text")
    transcripts = (corpus / "LibriSpeech/test-clean/110/5110/110-5110.trans.txt").read_text()
    assert f"110-5110-0001 {text['110-5110-0001']}\n" in transcripts


def test_phones(corpus, lexicon, tmp_path, capsys):
    out = tmp_path / "data"
    main(["corpus", "librispeech_superb", str(corpus), str(out), "--lexicon", str(lexicon)])
    assert f"{out}/dev_clean: 4 utterances" in capsys.readouterr().out
    words = (corpus / "LibriSpeech/dev-clean/106/5106/106-5106.trans.txt").read_text().split("\n")
    key, *words = words[0].split()
    phones = data_dir.read_table(out / "dev_clean/text")[key].split()
    assert "".join(phone[0] for phone in phones) == "".join(words)
    assert [phone[1] for phone in phones[: len(words[0])]] == list("01234")[: len(words[0])]


def test_first_pronunciation_of_the_first_file_counts(tmp_path):
    (tmp_path / "a").write_text("THE\tDH AH0\nTHE\tDH IY1\nSILENT\n\n")
    (tmp_path / "b").write_text("THE DH AH1\nCAT  K AE1 T\n")
    lexicon = read_lexicon([tmp_path / "a", tmp_path / "b"])
    assert lexicon == {"THE": "DH AH0", "CAT": "K AE1 T"}
    assert phones_of("THE CAT THE", lexicon) == "DH AH0 K AE1 T DH AH0"
    assert missing_words(["A CAT", "SILENT A"], lexicon) == ["A", "SILENT"]


def test_words_without_pronunciation_are_one_error(corpus, lexicon, tmp_path, capsys):
    kept = [line for line in lexicon.read_text().splitlines() if line.startswith(("AND", "EVER"))]
    lexicon.write_text("\n".join(kept) + "\n")
    folders = [corpus / "LibriSpeech" / f"{part}-clean" for part in ("dev", "test")]
    folders.append(corpus / "LibriSpeech/train-clean-100")
    lines = [line for f in folders for p in f.rglob("*.txt") for line in p.read_text().splitlines()]
    wanted = sorted({word for line in lines for word in line.split()[1:]} - {"AND", "EVER"})
    assert len(wanted) > 5
    out = tmp_path / "data"
    error = error_of(
        capsys, "corpus", "librispeech_superb", str(corpus), str(out), "--lexicon", str(lexicon)
    )
    assert error == (
        f"error: {lexicon}: {len(wanted)} words of train-clean-100, dev-clean, test-clean have no "
        f"pronunciation there ({', '.join(wanted[:5])}, …; all in {out}/missing_words.txt); add a "
        "lexicon that has them to LIBRISPEECH_LEXICON of db.sh"
    )
    assert (out / "missing_words.txt").read_text().split() == wanted
    assert not (out / "dev_clean").exists()
    second = tmp_path / "second"
    second.write_text("".join(f"{word} X\n" for word in wanted))
    prepare_superb(corpus, out, [lexicon, second])
    assert not (out / "missing_words.txt").exists()


def test_wrong_lexicon(corpus, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.txt: no such file; LIBRISPEECH_LEXICON of"):
        prepare_superb(corpus, tmp_path, [tmp_path / "none.txt"])
    (tmp_path / "words.txt").write_text("ONE\nTWO\n")
    with pytest.raises(ValueError, match="words.txt: no line 'WORD PHONE PHONE …' in it"):
        prepare_superb(corpus, tmp_path, [tmp_path / "words.txt"])
    (tmp_path / "latin").write_bytes(b"CAF\xc9 K AE0\n")
    with pytest.raises(ValueError, match=r"latin: not UTF-8 text \(byte 3\); convert it"):
        prepare_superb(corpus, tmp_path, [tmp_path / "latin"])


def test_missing_subset(corpus, tmp_path):
    shutil.rmtree(corpus / "LibriSpeech/dev-clean")
    with pytest.raises(FileNotFoundError, match="dev-clean: no such directory; unpack dev-clean"):
        prepare_superb(corpus, tmp_path / "data")
