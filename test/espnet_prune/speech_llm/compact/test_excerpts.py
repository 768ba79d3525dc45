import functools
import re

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from espnet_prune.data.normalize import spoken_sentences
from espnet_prune.data.voices import EVALUATION_VOICES, TRAINING_VOICES
from espnet_prune.speech_llm.compact.excerpts import (
    EXCERPT_SECONDS,
    cut,
    excerpt_items,
    hide,
    invent,
    invention,
    speak_at_speed,
)

PASSAGES = [
    [f"Sentence {name} has a few plain words in it." for name in "abcdefgh"],
    [],
    ["The last passage is a short one.", "It has two sentences."],
]


class Tone:
    """Half a second for every sentence, whatever the voice; remembers what it was asked."""

    asked: list[tuple[str, str, float]] = []

    def __init__(self, work=None):
        pass

    def __call__(self, text, voice, speed=1.0):
        self.asked.append((text, voice, speed))
        return np.full(8000, 0.1, np.float32)


def test_evaluation_voices_are_kept_from_training():
    assert not set(TRAINING_VOICES) & set(EVALUATION_VOICES)
    assert set(EVALUATION_VOICES) == {"slt", "awb", "en-029", "en-gb-x-rp+m1", "en-us-nyc+f3"}


def test_excerpts_hold_all_sentences_in_order_and_facts_in_a_share():
    for share in (0.0, 1.0):
        items = excerpt_items(PASSAGES, "train", share)
        said = [s for item in items for _, s in item.sentences]
        facts = [item.sentences[item.key[0]][1] for item in items if item.question]
        assert len(facts) == share * len(items)
        wanted = [s for passage in PASSAGES for s in passage]
        assert [s for s in said if s in wanted] == wanted
        assert len(said) == len(wanted) + len(facts)
        assert items == excerpt_items(PASSAGES, "train", share)
        for item in items:
            words = sum(len(s.split()) for _, s in item.sentences if s in wanted)
            assert words <= EXCERPT_SECONDS * 2.8
            assert {speaker for speaker, _ in item.sentences} == {"speaker"}
    half = excerpt_items(PASSAGES * 200, "train", 0.5)
    assert 0.4 < sum(bool(item.question) for item in half) / len(half) < 0.6
    assert len({item.id for item in half}) == len(half)
    assert half != excerpt_items(PASSAGES * 200, "train", 0.5, seed=1)


def test_speeds_come_with_the_voice_s_name():
    speak = functools.partial(speak_at_speed, Tone())
    Tone.asked.clear()
    speak("a", "rms@1.15"), speak("b", "en-us")
    assert Tone.asked == [("a", "rms", 1.15), ("b", "en-us", 1.0)]


def test_excerpts_fill_up():
    passage = ["one two three four"] * 5  # 4 words each; 10 fit into 4 s at 2.5 a second
    found = list(cut([passage, []], 4.0, words_a_second=2.5))
    assert [len(excerpt) for excerpt in found] == [2, 2, 1]


VALUES, TEMPLATES = invention()


def test_templates_name_known_values_and_one_answer_each():
    for template in TEMPLATES:
        sentence, question, answer = (template[k] for k in ("sentence", "question", "answer"))
        (kind,) = re.findall(r"{=(\w+)}", answer)
        assert re.findall(r"{=(\w+)}", sentence) == [kind]
        assert "{=" not in question  # it does not give the answer away
        others = set(re.findall(r"{(\w+)}", sentence + question))
        assert {kind, *others} <= VALUES.keys()
        # what the question asks about is said in the sentence
        assert set(re.findall(r"{(\w+)}", question)) <= set(re.findall(r"{(\w+)}", sentence))
        assert sentence.endswith(".") and question.endswith("?")
    for values in VALUES.values():
        assert len(values) == len(set(values)) >= 7 and all(values)


@given(st.text(max_size=8))
@example("\U00070085;\U00074120«\U00064e80\x1aT0")  # three people, and three hundred people
def test_the_right_choice_and_no_other_is_in_the_sentence(seed):
    fact = invent(seed)
    assert fact == invent(seed)
    assert "{" not in fact.sentence + fact.question + "".join(fact.choices)
    assert len(set(fact.choices)) == 4
    words = f" {fact.sentence.lower()} "

    def value(choice: str) -> str:
        # without the words that lead to it ("On Monday", "It will sell …")
        lead = r"^(on|at|in|by|for|about|because of|it will|that they should) "
        return re.sub(lead, "", choice.lower()).removesuffix(" people")

    def said(choice: str) -> bool:
        return re.search(rf"\b{re.escape(value(choice))}\b", words) is not None

    assert said(fact.choices[fact.answer])
    # a number may be a part of another ("five" of "twenty five"): then the longer one is right
    others = [c for i, c in enumerate(fact.choices) if i != fact.answer and said(c)]
    assert all(value(c) in value(fact.choices[fact.answer]) for c in others)


@given(st.integers(0, 10**6))
def test_a_voice_can_read_what_is_invented(seed):
    fact = invent(str(seed))
    assert spoken_sentences(fact.sentence, least=3) == [fact.sentence]


def test_all_templates_and_places_come_up():
    facts = [invent(str(n)) for n in range(800)]
    assert len({fact.answer for fact in facts}) == 4
    starts = {template["sentence"].split("{")[0] for template in TEMPLATES}
    assert all(any(fact.sentence.startswith(start) for fact in facts) for start in starts)
    places = {hide(["One.", "Two."], facts[0], str(n))[1] for n in range(50)}
    assert places == {0, 1, 2}


@given(st.lists(st.text(min_size=1), max_size=5), st.text())
def test_hiding_keeps_the_other_sentences(sentences, seed):
    fact = invent("a")
    whole, place = hide(sentences, fact, seed)
    assert whole[place] == fact.sentence
    assert whole[:place] + whole[place + 1 :] == sentences
