import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from espnet_prune.data.corpora.snips import (
    LABELS,
    SPEAKERS,
    find_root,
    prepare,
    read_labels,
    slots_of,
    tokens_of,
    tokens_to_text,
)
from espnet_prune.evaluate.metrics.slots import parse_slots
from test.espnet_prune.stand_in import snips


def tokens(words: str, tags: str) -> str:
    return " ".join(tokens_of(words.split(), tags.split()))


def test_tokens_by_hand():
    expected = "O N <space> B-artist A B <space> C E-artist <space> U P"
    assert tokens("ON AB C UP", "O artist artist O") == expected
    assert tokens_to_text(expected.split()) == "ON B-artist AB C E-artist UP"
    # Text corpora have B- and I-: two values of one slot in a row
    expected = "B-x A E-x <space> B-x B <space> C E-x"
    assert tokens("A B C", "B-x B-x I-x") == expected
    # What is not spoken is left out, at the ends of a slot, too
    assert tokens(", & ; B - !", "x x x x x O") == "B-x A N D <space> B E-x"
    assert tokens("A !", "O x") == "A"


def test_recognised_tokens_need_not_be_well_formed():
    assert tokens_to_text("<space> A E-x <space> <space> B-x B-y".split()) == "A E-x B-x B-y"
    assert tokens_to_text([]) == ""


WORD = st.text("ABC'", min_size=1, max_size=3)


@given(st.lists(st.tuples(WORD, st.sampled_from(["O", "x", "y"])), min_size=1, max_size=8))
def test_text_has_the_words_and_the_slots_of_the_tags(pairs):
    words, tags = zip(*pairs, strict=True)
    text = tokens_to_text(tokens_of(words, tags))
    assert [w for w in text.split() if not re.fullmatch("[BE]-[xy]", w)] == list(words)
    stretches = [(slot, " ".join(words[begin:end])) for begin, end, slot in slots_of(tags)]
    assert parse_slots(text) == stretches
    covered = [tags[n] for begin, end, _ in slots_of(tags) for n in range(begin, end)]
    assert covered == [tag for tag in tags if tag != "O"]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return snips(tmp_path_factory.mktemp("corpus"), sentences=2, seconds=0.1)


@pytest.fixture
def corpus(untouched, tmp_path):
    """A stand-in that a test may break."""
    return shutil.copytree(untouched, tmp_path / "corpus")


def test_speakers_are_apart(corpus, tmp_path, capsys, caplog):
    out = tmp_path / "data"
    main(["corpus", "snips", str(corpus), str(out)])
    assert f"{out}/train: 16 utterances" in capsys.readouterr().out
    speakers = [set(data_dir.read_table(out / split / "spk2utt")) for split in SPEAKERS]
    assert [len(s) for s in speakers] == [8, 4, 4] and len(set.union(*speakers)) == 16
    for split in SPEAKERS:
        assert data_dir.validate(out / split) == []
    text = data_dir.read_table(out / "test/text")["Emma-snips-test-0"]
    assert text.startswith("P L A Y <space> B-artist ") and " E-artist <space> " in text
    assert caplog.text == ""

    target = tmp_path / "texts"
    main(["data", "slot-text", str(out / "test/text"), str(target)])
    found = data_dir.read_table(target)["Emma-snips-test-0"]
    assert re.fullmatch("PLAY B-artist [A-Z ]+ E-artist NOW", found)


def test_the_corpus_itself_does_too(corpus):
    assert find_root(corpus) == find_root(corpus / "SNIPS") == corpus / "SNIPS"
    with pytest.raises(FileNotFoundError, match=f"train: has no SNIPS/{LABELS}; SNIPS of db.sh"):
        find_root(corpus / "SNIPS/train")


def test_wrong_labels(corpus, tmp_path):
    path = corpus / "SNIPS" / LABELS
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first.replace("\t", " "), *others]))
    with pytest.raises(ValueError, match=f"{LABELS}: Aditi-snips-test-0: has 12 words and 0 tags"):
        read_labels(path)
    path.write_text("\n".join([first + " O", *others]))
    with pytest.raises(ValueError, match="has 6 words and 7 tags; wanted are 'BOS WORD … EOS', a"):
        read_labels(path)
    path.write_text("a BOS ! EOS\tO O Stop\n")
    assert read_labels(path) == {"a": (["!"], ["O"])}


def test_unlabelled_and_missing_recordings(corpus, tmp_path, caplog):
    root = corpus / "SNIPS"
    (root / "valid/Amy-snips-valid-1.wav").unlink()
    numbers = prepare(corpus, tmp_path / "data")
    assert numbers == {"train": 16, "valid": 7, "test": 8}
    assert "1 of 8 utterances have no recording, the first is Amy-snips-valid-1" in caplog.text
    labels = (root / LABELS).read_text().splitlines()
    kept = [line for line in labels if not line.startswith("Brian-snips-test")]
    (root / LABELS).write_text("\n".join(kept) + "\n")
    with pytest.raises(ValueError, match="has no line for 2 recordings in .*test, the first is Br"):
        prepare(corpus, tmp_path / "data")
    (root / LABELS).write_text("\n".join([*kept, "Brian-snips-test-0 BOS ! EOS\tO O Stop"]))
    (root / "test/Brian-snips-test-1.wav").unlink()
    with pytest.raises(ValueError, match="Brian-snips-test-0: has no words"):
        prepare(corpus, tmp_path / "data")
    for path in root.glob("test/[BE]*.wav"):
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no recordings Brian-\*.wav; .*Brian, Emma cannot"
    ):
        prepare(corpus, tmp_path / "data")
    shutil.rmtree(root / "train")
    with pytest.raises(FileNotFoundError, match="train: no such directory; it has the recordings"):
        prepare(corpus, tmp_path / "data")
