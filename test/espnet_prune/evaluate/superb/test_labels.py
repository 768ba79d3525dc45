import pytest
import yaml

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from espnet_prune.evaluate.superb.labels import class_list, write_labels


def write(folder, labels, samples=16000):
    tables = {
        "wav.scp": {name: "/audio.wav" for name in labels},
        "text": labels,
        "utt2spk": {name: "s" for name in labels},
        "utt2num_samples": {name: str(samples) for name in labels},
    }
    data_dir.write_dir(folder, tables)
    return folder


def test_labels_of_the_training_data(tmp_path):
    train = write(tmp_path / "train", {"a": "yes", "b": "no", "c": "yes"})
    test = write(tmp_path / "test", {"d": "no"})
    args = [
        "superb",
        "labels",
        "--train",
        str(train),
        "--others",
        str(test),
        "--output_dir",
        str(tmp_path),
    ]
    main(args)
    assert (tmp_path / "labels.txt").read_text() == "no\nyes\n<unk>\n"
    assert (train / "category2utt").read_text() == "no b\nyes a c\n"


@pytest.mark.parametrize(
    "train, test, message",
    [
        ({"a": "yes", "b": "no"}, {"d": "go", "e": "go"}, "class go, of 2 utterances, is not in"),
        ({"a": "yes", "b": "yes"}, {"d": "yes"}, "only the class yes"),
        ({"a": "yes", "b": "not at all"}, {"d": "yes"}, "b: 'not at all' has several words"),
        ({"a": "yes", "b": ""}, {"d": "yes"}, "b: has no label"),
        ({"a": "yes", "b": "<unk>"}, {"d": "yes"}, "<unk> is ESPnet's own"),
        ({"a": "yes", "b": "no"}, {}, "is empty"),
    ],
)
def test_labels_that_cannot_be_learnt(train, test, message, tmp_path, capsys):
    train, test = write(tmp_path / "train", train), write(tmp_path / "test", test)
    args = [
        "superb",
        "labels",
        "--train",
        str(train),
        "--others",
        str(test),
        "--output_dir",
        str(tmp_path),
    ]
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


def test_all_combinations_of_slots(tmp_path):
    train = write(tmp_path / "train", {"a": "on+lamp", "b": "off+heat", "c": "off+music"})
    test = write(tmp_path / "test", {"d": "on+heat"})  # a new combination of known values
    write_labels(train, [test], tmp_path, slots=True)
    assert (tmp_path / "labels.txt").read_text().split() == [
        *("off+heat", "off+lamp", "off+music"),
        *("on+heat", "on+lamp", "on+music"),
        "<unk>",
    ]
    assert yaml.safe_load((tmp_path / "slot_sizes").read_text()) == [2, 3]
    for labels, message in (
        ({"d": "on+juice"}, "value juice of slot 2, of 1 utterances, is not in"),
        ({"d": "on"}, "'on' has not 2 values"),
        ({"d": "on+"}, r"'on\+' has not 2 values"),
    ):
        with pytest.raises(ValueError, match=message):
            class_list(train, [write(tmp_path / "bad", labels)], slots=True)
