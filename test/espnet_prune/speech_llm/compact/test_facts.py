import re

from hypothesis import example, given
from hypothesis import strategies as st

from espnet_prune.speech_llm.compact.facts import hide, invent, invention
from espnet_prune.speech_llm.compact.passages import spoken_sentences

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
