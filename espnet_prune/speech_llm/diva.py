"""DiVA (arXiv 2410.02678): Whisper-large-v3 in front of Llama 3."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoModel

from espnet_prune.speech_llm.base import Heard, SpeechLLM, log_mel
from espnet_prune.structured.encoder import read_model_config


class Diva(SpeechLLM):
    """Whisper encoder, connector of 448 learned queries, linear projection, Llama-3-8B.

    NOT VERIFIED WITH THE REAL WEIGHTS. The model's code lives beside its weights
    (`WillHeld/DiVA-llama-3-v0-8b`) and not in `transformers`; this follows the names that code
    uses, and is tested on a small stand-in of the same shape.

    Every chunk of up to 30 s makes 448 tokens, however short it is. They are answers to learned
    queries and not frames in time: a pruner's "second" is 15 of them (448 / 30). The question
    stands in the system's turn, before the audio. The model's own generation loop passes no mask
    and no positions; here the language model generates from embeddings as any other.

    Args:
        model: the loaded model, with `whisper_encoder`, `connector`, `llm_decoder`, `processor`
            (Whisper's), `tokenizer`, and the prompt's parts `pre_system`, `post_system` and
            `final_header` as tensors of ids.
    """

    frame_tokens = 15
    window = 448
    in_time = False

    def __init__(self, model: Any):
        extractor = model.processor.feature_extractor
        super().__init__(model.llm_decoder, model.tokenizer, extractor.n_samples)
        self.model = model

    @classmethod
    def from_pretrained(
        cls,
        model: str = "WillHeld/DiVA-llama-3-v0-8b",
        device: str = "cpu",
        trust_remote_code: bool = False,
        revision: str | None = None,
    ) -> Diva:
        """Load a directory or a hub name, and run the code that is stored there.

        Args:
            trust_remote_code: has to be true: read the code first.
            revision: commit of a hub name (40 digits), of which the code is read and run.
        Raises:
            ValueError: one of these is missing, or the code lies in yet another place.
            FileNotFoundError: no such model.
        """
        if trust_remote_code is not True:
            raise ValueError(
                f"{model}: the model comes with code, which would be run: read it, then load it "
                "with trust_remote_code=true (and revision=COMMIT, if it is a hub name)"
            )
        if not Path(model).is_dir() and not re.fullmatch("[0-9a-f]{40}", revision or ""):
            raise ValueError(
                f"{model}: revision is {revision!r}, but has to be the commit of the hub (40 "
                "digits) whose code you have read"
            )
        code = read_model_config(model, revision).get("auto_map")
        if "--" in str(code):  # REPOSITORY--module.Class
            raise ValueError(
                f"{model}/config.json: key 'auto_map' names code of another repository, which has "
                f"no revision here: {code}; put the code beside the model"
            )
        pinned = {} if revision is None else {"revision": revision, "code_revision": revision}
        options = {"device_map": {"": device}, "speech_encoder_device": device, **pinned}
        loaded = AutoModel.from_pretrained(model, trust_remote_code=True, **options)
        return cls(loaded.eval())

    def encode(self, chunks: list[np.ndarray]) -> list[Heard]:
        encoder = self.model.whisper_encoder
        features = log_mel(self.model.processor.feature_extractor, chunks)
        hidden = encoder(features.input_features.to(encoder.device, encoder.dtype))
        device = self.lm.get_input_embeddings().weight.device
        tokens = self.model.connector(hidden.last_hidden_state, output_device=device)
        return [Heard(row) for row in tokens]

    def layout(self, question: str) -> tuple[list[int], list[int]]:
        ids = self.tokenizer(question, add_special_tokens=False).input_ids
        before = [*self.model.pre_system.tolist(), *ids, *self.model.post_system.tolist()]
        return before, self.model.final_header.tolist()

    def stops(self) -> dict:
        # The base model's own end does not end a turn; the header that follows the audio begins
        # with what does.
        return {"eos_token_id": [int(self.model.final_header[0]), self.tokenizer.eos_token_id]}
