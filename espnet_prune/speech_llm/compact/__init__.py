"""The compact speech LLM that fits two CPU cores, and all that trains it.

In the order of the recipe: `passages` and `words` (texts to speak), `excerpts` (speech, with facts
hidden in it), `pieces` (the tokens that the adapter spells with), `features` (frames of the
encoder), then the ESPnet tasks of `espnet_prune.plugin.tasks.speech_llm` train adapter and
LoRA, and `model` puts all together. The trained model stays in git, once, in its recipe's folder:
there is no place to publish it, and making it takes two CPU cores three hours.
"""
