# Where corpora are on this machine: fill in what you have, or set the variable in the environment.
# shellcheck shell=bash
# shellcheck disable=SC2034

# The directory that holds LibriSpeech/train-clean-100, LibriSpeech/dev-clean and so on.
LIBRISPEECH="${LIBRISPEECH:-}"

# The directory of Speech Commands v0.01: its 30 words, _background_noise_ and the lists.
SPEECHCOMMANDS="${SPEECHCOMMANDS:-}"
# The directory of the official test set, speech_commands_test_set_v0.01.
SPEECHCOMMANDS_TEST="${SPEECHCOMMANDS_TEST:-}"

# The directory that holds VoxCeleb1's dev/wav and test/wav (or wav with both), iden_split.txt and
# veri_test.txt.
VOXCELEB1="${VOXCELEB1:-}"

# The directory of Fluent Speech Commands, with data/*_data.csv and wavs.
FSC="${FSC:-}"

# The directory of IEMOCAP, with Session1 to Session5.
IEMOCAP="${IEMOCAP:-}"

# The directory with the recordings of the Free Spoken Digit Dataset.
FSDD="${FSDD:-}"
# The directory that holds Libri2Mix/wav16k/max, and that of the alignments of LibriSpeech in RTTM
# (metadata/LibriSpeech of SUPERB's fork of LibriMix; inside the first one by default).
LIBRIMIX="${LIBRIMIX:-}"
LIBRISPEECH_RTTM="${LIBRISPEECH_RTTM:-}"
# The directory that holds quesst14Database.
QUESST14="${QUESST14:-}"

# Pronunciations of LibriSpeech's words for PR: one file or several, with spaces between (a path that
# has some goes into quotes); the first one that has a word counts. As in SUPERB: librispeech-lexicon-200k-g2p.txt and
# librispeech-lexicon-allothers-g2p.txt of s3prl.
LIBRISPEECH_LEXICON="${LIBRISPEECH_LEXICON:-}"

# The directory that holds all.iob.snips.txt, train, valid and test (Audio SNIPS as s3prl prepares it).
SNIPS="${SNIPS:-}"

# SPIRAL as its authors publish it (github.com/linyueqian/SPIRAL_Dataset): the directory that holds
# data.jsonl and data_h.jsonl. It is fetched from there when empty.
SPIRAL="${SPIRAL:-}"
# The authors' recordings, lecture_2.wav and so on; without them synthetic voices speak the items.
SPIRAL_WAVS="${SPIRAL_WAVS:-}"

# AudioBench's datasets of questions about recordings (hub names AudioLLMs/dream_tts_mcq_test and
# AudioLLMs/cn_college_listen_mcq_test): the directories that hold data/test-*.parquet.
DREAM_TTS="${DREAM_TTS:-}"
CN_COLLEGE_LISTEN="${CN_COLLEGE_LISTEN:-}"
# The directory below which AudioMarathon (hub name Hezep/AudioMarathon) was unpacked.
AUDIOMARATHON="${AUDIOMARATHON:-}"
