"""Pieces of words that transcripts are written in: SentencePiece's unigram model.

T. Kudo, "Subword regularization: improving neural network translation models with multiple subword
candidates", 2018; ESPnet calls these units bpe.
"""

from __future__ import annotations

import io
from pathlib import Path

from espnet_prune.data.data_dir import read_table
from espnet_prune.files.freshness import digest, drop_stale
from espnet_prune.files.writing import write_bytes, write_text

MODEL, TOKENS = "bpe.model", "tokens.txt"


def train_bpe(text: str | Path, output_dir: str | Path, nbpe: int) -> str:
    """Write OUTPUT_DIR/bpe.model and tokens.txt, for ESPnet's --bpemodel and --token_list.

    They are kept when they were made of the same transcripts.

    Args:
        text: 'utterance transcript' lines.
        nbpe: number of pieces, with SentencePiece's own three (unknown, begin, end of a sentence),
            which the list of tokens has as ESPnet names them, with <blank> before.
    Returns: what was done.
    Raises:
        FileNotFoundError, ValueError: no transcripts, or they do not have so many or few pieces.
    """
    import sentencepiece

    output_dir = Path(output_dir)
    transcripts = [line for line in read_table(text).values() if line]
    if not transcripts:
        raise ValueError(f"{text}: no transcripts in it")
    made_of = digest([nbpe, sentencepiece.__version__, *transcripts])
    drop_stale(output_dir, {MODEL: made_of, TOKENS: made_of})
    done = f"{output_dir / TOKENS}: {nbpe} pieces"
    if all((output_dir / name).is_file() for name in (MODEL, TOKENS)):
        return f"{done} (of an earlier run)"
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(transcripts),
            model_writer=model,
            vocab_size=nbpe,
            model_type="unigram",
            character_coverage=1.0,
            minloglevel=2,  # errors only
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).rpartition("] ")[2] or str(error)
        raise ValueError(f"{text}: --nbpe {nbpe}: {' '.join(reason.split())}") from None
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [
        trained.id_to_piece(number)
        for number in range(trained.get_piece_size())
        if not (trained.is_unknown(number) or trained.is_control(number))
    ]
    write_bytes(output_dir / MODEL, model.getvalue())
    write_text(output_dir / TOKENS, "\n".join(["<blank>", "<unk>", *pieces, "<sos/eos>"]) + "\n")
    return done
