"""The compact speech LLM that fits two CPU cores, and all that trains it.

In the order of the recipe: `passages` (texts to speak), `excerpts` (speech, with facts hidden in
it), `hearing` (what the `ear` hears, in time), then the ESPnet task of
`espnet_prune.plugin.tasks.speech_llm` trains LoRA, and `model` puts all together. The trained model
stays in git, once, in its recipe's folder: there is no place to publish it.
"""
