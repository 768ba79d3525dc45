"""`espnet-prune corpus`: data directories from a corpus, by the table `CORPORA`."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser
from typing import Any, NamedTuple


class Corpus(NamedTuple):
    """A command that prepares data directories.

    Args:
        function: "module.function" of `espnet_prune.data.corpora`; it takes the options by their
            names and returns the number of entries of each data directory.
        help: the command's help text.
        options: name, with -- or without -> arguments of `add_argument`.
        entries: what the numbers count.
    """

    function: str
    help: str
    options: dict[str, dict[str, Any]]
    entries: str = "utterances"


def _places(corpus: str, sets: str) -> dict[str, dict[str, Any]]:
    return {"corpus": {"help": corpus}, "out_dir": {"help": f"folder that gets {sets}"}}


_DOWNLOAD_DIR = {"default": "downloads", "help": "folder for the Debian packages"}
_LIBRISPEECH = "directory that holds LibriSpeech/dev-clean and so on"
_VOXCELEB = "directory that holds dev/wav, test/wav and {}"
_FOLDS = "train_foldN, valid_foldN and test_foldN; test_foldN is {} alone"

CORPORA = {
    "voice_prompts": Corpus(
        "voice_prompts.prepare",
        "Prepare data directories from Debian's voice prompts, or from your own audio.",
        {
            "out_dir": {
                "help": "folder that gets train_ssl, valid_ssl and, with transcripts, train_en, "
                "dev_en and test_en"
            },
            "--download_dir": _DOWNLOAD_DIR,
            "--audio_dir": {
                "help": "folder whose .wav, .flac, .ogg and .mp3 files are taken instead of the "
                "prompts; x.txt beside x.wav is its English transcript"
            },
        },
    ),
    "voice_languages": Corpus(
        "voice_prompts.prepare_languages",
        "Prepare language identification from Debian's voice prompts.",
        {
            "out_dir": {"help": "folder that gets train, dev and test"},
            "--download_dir": _DOWNLOAD_DIR,
        },
    ),
    "librispeech": Corpus(
        "librispeech.prepare",
        "Prepare data directories from LibriSpeech.",
        {
            **_places(_LIBRISPEECH, "dev, train_960 (for 960 hours) and one for each subset"),
            "--train_hours": {
                "type": int,
                "choices": (960, 100),
                "default": 960,
                "help": "hours of training audio",
            },
        },
    ),
    "librispeech_superb": Corpus(
        "librispeech.prepare_superb",
        "Prepare data directories of SUPERB's PR and ASR from LibriSpeech.",
        {
            **_places(_LIBRISPEECH, "train_clean_100, dev_clean and test_clean"),
            "--lexicon": {
                "nargs": "+",
                "default": (),
                "metavar": "FILE",
                "help": "files of 'WORD PHONE PHONE …' lines; transcripts become phones, by the "
                "first pronunciation of a word",
            },
        },
    ),
    "snips": Corpus(
        "snips.prepare",
        "Prepare slot filling from Audio SNIPS (SUPERB's SF).",
        _places("directory that holds all.iob.snips.txt", "train, valid and test"),
    ),
    "fsc": Corpus(
        "fsc.prepare",
        "Prepare intent classification from Fluent Speech Commands.",
        _places(
            "directory that holds data and wavs",
            "train, valid and test; a label is action+object+location",
        ),
    ),
    "fsdd_digits": Corpus(
        "fsdd.prepare_digits",
        "Prepare digit recognition from the Free Spoken Digit Dataset.",
        _places("directory of the recordings", _FOLDS.format("the N-th speaker")),
    ),
    "fsdd_speakers": Corpus(
        "fsdd.prepare_speakers",
        "Prepare speaker identification from the Free Spoken Digit Dataset.",
        _places("directory of the recordings", "train, valid and test"),
    ),
    "iemocap": Corpus(
        "iemocap.prepare",
        "Prepare emotion recognition in five folds from IEMOCAP.",
        _places("directory that holds Session1 to Session5", _FOLDS.format("session N")),
    ),
    "librimix": Corpus(
        "librimix.prepare",
        "Prepare speaker diarisation from Libri2Mix.",
        {
            **_places(
                "directory that holds Libri2Mix/wav16k/max",
                "train, dev and test, with rttm and frame_labels",
            ),
            "--rttm_dir": {
                "help": "folder of LibriSpeech's alignments, train_clean_100.rttm and so on "
                "(default: metadata/LibriSpeech of the corpus)"
            },
        },
        "mixtures",
    ),
    "quesst14": Corpus(
        "quesst14.prepare",
        "Prepare query-by-example search from QUESST 2014.",
        _places(
            "directory that holds quesst14Database",
            "documents, dev and eval, the latter two with ref",
        ),
        "recordings",
    ),
    "speechcommands": Corpus(
        "speechcommands.prepare",
        "Prepare keyword spotting with 12 classes from Speech Commands v0.01.",
        {
            "corpus": {"help": "directory of the words and of _background_noise_"},
            "test": {"help": "directory of the official test set, a folder a class"},
            "out_dir": {"help": "folder that gets train, valid and test, and seconds of silence"},
        },
    ),
    "voxceleb": Corpus(
        "voxceleb.prepare_identification",
        "Prepare speaker identification from VoxCeleb1.",
        {
            **_places(_VOXCELEB.format("iden_split.txt"), "train, valid and test"),
            "--split": {"help": "file of the official split (default: that of the corpus)"},
        },
    ),
    "voxceleb_trials": Corpus(
        "voxceleb.prepare_verification",
        "Prepare speaker verification from VoxCeleb1.",
        {
            **_places(
                _VOXCELEB.format("veri_test.txt"),
                "train, dev and test, the latter two with trials",
            ),
            "--trials": {"help": "list of the test trials (default: that of the corpus)"},
            "--held_out": {
                "type": int,
                "default": 40,
                "metavar": "N",
                "help": "training speakers to make development trials of instead",
            },
        },
    ),
}


def _verb(corpus: Corpus):
    def verb(parser: ArgumentParser):
        for name, arguments in corpus.options.items():
            parser.add_argument(name, **arguments)

        def run(args):
            module, function = corpus.function.split(".")
            module = importlib.import_module(f"espnet_prune.data.corpora.{module}")
            for name, number in getattr(module, function)(**vars(args)).items():
                print(f"{args.out_dir}/{name}: {number} {corpus.entries}")

        return run

    verb.__doc__ = corpus.help
    return verb


VERBS = {name: _verb(corpus) for name, corpus in CORPORA.items()}
