import json

import time_to_first_token

from espnet_prune.data.audio import write_speech
from test.espnet_prune.speech_llm.models import RATE, qwen2_audio, speech
from test.espnet_prune.speech_llm.serve import stub


def test_table_and_json(tmp_path, capsys):
    model, processor = qwen2_audio()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "qwen")
    write_speech(tmp_path / "a.wav", speech(5.0)[0].numpy(), RATE)
    around = 35  # tokens of the text
    options = ["--speech_llm", "qwen2_audio", "--speech_llm_conf", f"model={tmp_path / 'qwen'}"]
    options += ["--audio", str(tmp_path / "a.wav"), "--question", "who wins?", "--rates", "0.6"]
    options += ["--repeats", "2", "--output", str(tmp_path / "found.json")]
    with stub.serving(lambda body: stub.answer(body, around)) as (url, bodies):
        time_to_first_token.main([*options, "--url", url])
    whole, pruned = json.loads((tmp_path / "found.json").read_text())["variants"]
    assert whole["prompt_tokens"] == [125 + around] * 2
    assert pruned["prompt_tokens"] == [50 + around] * 2
    assert all(seconds > 0 for seconds in whole["first_token_seconds"])
    # the server's answers are not the model's
    assert whole["as_transformers"] == pruned["as_transformers"] == 0
    printed = capsys.readouterr().out
    assert f"| whole recording | -    | {125 + around}" in printed
    assert f"| speechprune     | 0.6  | {50 + around}" in printed
    # no prompt comes twice: the server's cache of prefixes has none of them
    sent = [json.dumps(body["messages"]) for _, body in bodies]
    assert len(sent) == len(set(sent)) == 6
