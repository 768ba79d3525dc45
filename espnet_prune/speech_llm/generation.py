"""Which options of `transformers`' `generate` a prompt with pruned audio can be given.

A prompt goes into the language model as embeddings. What reads the ids of the prompt beside them,
counts them, or goes through the model in another way, may go wrong without a word. So what is known
to be right is listed here, and the rest is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from transformers import GenerationConfig

#: what ends an answer, chooses its tokens, or changes no token of it
ALLOWED = frozenset(
    (
        # ends; `max_time` is of the clock
        "max_new_tokens min_new_tokens max_time stop_strings tokenizer eos_token_id pad_token_id "
        "bos_token_id exponential_decay_length_penalty forced_eos_token_id "
        # choices by the model's logits
        "do_sample temperature top_k top_p min_p typical_p epsilon_cutoff eta_cutoff "
        "num_beams early_stopping length_penalty num_return_sequences "
        # changes of logits that know new tokens and the end of the prompt, which is never pruned
        "suppress_tokens begin_suppress_tokens bad_words_ids sequence_bias "
        "repetition_penalty no_repeat_ngram_size remove_invalid_values renormalize_logits "
        # no change of any token
        "use_cache disable_compile synced_gpus streamer "
        # read by assisted decoding alone, which is refused by what asks for it
        "num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold "
        "max_matching_ngram_size assistant_lookbehind target_lookbehind"
    ).split()
)
#: of a `generate` that gives back ids, and knows how many tokens were dropped
LENGTHS = frozenset({"max_length", "min_length"})
OUTPUTS = frozenset(
    "return_dict_in_generate output_attentions output_hidden_states output_scores "
    "output_logits".split()
)
#: values with which an option does nothing, as old generation configs have them
IDLE = {
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "guidance_scale": 1.0,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "cache_implementation": "dynamic",
}


def settings(model: Any, options: Mapping[str, Any], config: Any = None) -> dict[str, Any]:
    """What `model.generate` will go by: its own generation config, over it `config`, over it the
    keyword options. Entries that `transformers` does not know say nothing there."""
    known = vars(GenerationConfig())
    found: dict[str, Any] = {}
    for source in (model.generation_config, config):
        entries = {} if source is None else vars(source)
        found.update({n: v for n, v in entries.items() if n in known and v is not None})
    found.pop("transformers_version", None)
    return found | dict(options)


def check_options(found: Mapping[str, Any], allowed: Collection[str]) -> None:
    """ValueError, which names it, for an option of `settings` that does something and is not among
    the `allowed`."""
    for name, value in found.items():
        idle = value is None or value is False or (name in IDLE and value == IDLE[name])
        if not (idle or name in allowed or name.startswith("_")):
            raise ValueError(
                f"generate: option '{name}' is not known to be right where audio tokens are "
                "pruned: leave it out (also of the generation config)"
            )
