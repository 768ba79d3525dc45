"""Invented facts for question-answering practice: a sentence to hide in a passage, a question about
it, four choices. All of it is made here from templates; none comes from a test set.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: kind of value -> its values, as they are spoken
VALUES: dict[str, tuple[str, ...]] = {
    kind: tuple(value.strip() for value in " ".join(text.split()).split("|"))
    for kind, text in {
        "person": """Anna|Peter|Maria|Thomas|Clara|David|Helen|Martin|Laura|Simon|Nina|Robert|Alice|
            Victor|Emma|Oscar|Julia|Henry|Rosa|Felix|Irene|George|Sara|Paul|Ellen|Frank|Lucy|Walter|
            Diana|Louis|Mister Brown|Doctor Green|Miss Carter|Professor Hall|Captain Young""",
        "place": """the town hall|the main station|the old library|the sports hall|the north gate|
            the harbour|the music school|the market square|the city park|the post office|the museum|
            the back garden|the second floor|the blue room|the school kitchen|the car park|the lab|
            the river bank|the community centre|the old mill""",
        "city": """Paris|London|Rome|Madrid|Berlin|Vienna|Boston|Chicago|Denver|Toronto|Sydney|
            Tokyo|Dublin|Lisbon|Oslo|Athens|Cairo|Delhi|Lima|Seattle""",
        "day": """Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday""",
        "month": """January|February|March|April|May|June|July|August|September|October|November|
            December""",
        "time": """six in the morning|half past seven|eight o'clock|nine thirty|ten o'clock|
            a quarter past eleven|noon|one thirty|two o'clock|half past three|four o'clock|
            five in the afternoon|seven in the evening|midnight""",
        "number": """two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|eighteen|twenty|
            twenty five|thirty|forty|forty eight|fifty|sixty|seventy five|ninety|a hundred|
            two hundred|three hundred|five hundred|a thousand""",
        "percent": """five percent|eight percent|ten percent|twelve percent|fifteen percent|
            twenty percent|thirty percent|forty percent|fifty percent|sixty percent|
            ninety percent""",
        "colour": """red|blue|green|yellow|white|black|grey|brown|orange|purple|silver|pink""",
        "food": """apple pie|tomato soup|fried rice|cheese bread|fish and potatoes|bean stew|
            chocolate cake|lemon tea|roast chicken|mushroom pasta|vegetable curry|pancakes""",
        "tool": """a hammer|a long rope|a torch|a camera|a microphone|a notebook|a ladder|
            a thermometer|a small pump|a laptop|a map|a bucket|a telescope|a stopwatch""",
        "animal": """a white horse|a grey cat|an owl|a brown bear|a young fox|a parrot|two rabbits|
            a sea turtle|a black dog|a family of ducks|a wild goat|a snake""",
        "gift": """a silver watch|a red bicycle|an old guitar|a warm coat|a chess set|a gold ring|
            a box of paints|two concert tickets|a wool blanket|a garden chair|a cookery book""",
        "material": """oak wood|copper|clay|recycled glass|concrete|bamboo|steel|wool|cotton|paper|
            plastic|leather|stone""",
        "cause": """heavy rain|a power cut|a broken pipe|missing staff|strong wind|a software error|
            a lost key|bad roads|a late train|high prices|a small fire|a flat tyre""",
        "purpose": """to save energy|to reduce noise|to protect the birds|to teach young people|
            to lower the costs|to attract more visitors|to keep the water clean|
            to test new ideas|to help older people|to make work safer|
            to collect old photographs|to grow vegetables""",
        "plan": """hire two new people|move to a larger office|buy electric cars|
            change the opening hours|repair the roof|start a training course|cancel the trip|
            build a new website|plant more trees|print a new catalogue|open a small shop|
            sell the old machines""",
        "subject": """history|chemistry|drawing|biology|mathematics|geography|music|physics|law|
            cooking|economics|engineering""",
        "transport": """by train|by bicycle|on foot|by boat|by bus|by taxi|on horseback|by plane""",
        "duration": """ten minutes|half an hour|two hours|three days|a week|two weeks|a month|
            six months|a year|two years|ten years""",
        "price": """five dollars|twelve dollars|twenty dollars|forty dollars|sixty dollars|
            ninety dollars|two hundred dollars|five hundred dollars|a thousand dollars""",
    }.items()
}

# (sentence, question, answer): {kind} is a value that the question gives back, {=kind} the answer.
TEMPLATES: tuple[tuple[str, str, str], ...] = (
    (
        "{person} said that the meeting will be held on {=day}.",
        "On which day will the meeting be held, according to {person}?",
        "On {=day}",
    ),
    (
        "The bus to {city} leaves at {=time}.",
        "When does the bus to {city} leave?",
        "At {=time}",
    ),
    (
        "{person} left the papers at {=place}.",
        "Where did {person} leave the papers?",
        "At {=place}",
    ),
    (
        "The key to the cellar is kept at {=place}.",
        "Where is the key to the cellar kept?",
        "At {=place}",
    ),
    (
        "{=person} will give the opening speech this year.",
        "Who will give the opening speech?",
        "{=person}",
    ),
    (
        "It was {=person} who repaired the old clock in {city}.",
        "Who repaired the old clock in {city}?",
        "{=person}",
    ),
    (
        "{person} counted {=number} visitors on the first day.",
        "How many visitors did {person} count on the first day?",
        "{=number}",
    ),
    (
        "The new hall has room for {=number} people.",
        "How many people does the new hall have room for?",
        "{=number} people",
    ),
    (
        "Sales in {city} rose by {=percent}.",
        "By how much did sales in {city} rise?",
        "By {=percent}",
    ),
    (
        "About {=percent} of the members voted in {month}.",
        "What share of the members voted in {month}?",
        "About {=percent}",
    ),
    (
        "{person} painted the front door {=colour}.",
        "What colour did {person} paint the front door?",
        "{=colour}",
    ),
    (
        "The line to the airport is marked in {=colour} on the map.",
        "In which colour is the line to the airport marked?",
        "{=colour}",
    ),
    (
        "For lunch {person} always makes {=food}.",
        "What does {person} always make for lunch?",
        "{=food}",
    ),
    (
        "The kitchen in {city} is famous for its {=food}.",
        "What is the kitchen in {city} famous for?",
        "{=food}",
    ),
    (
        "For the trip {person} needs {=tool} more than anything else.",
        "What does {person} need most for the trip?",
        "{=tool}",
    ),
    (
        "Behind the house {person} saw {=animal}.",
        "What did {person} see behind the house?",
        "{=animal}",
    ),
    (
        "The children in {city} are proud of {=animal} at their school.",
        "Which animal do the children in {city} have at their school?",
        "{=animal}",
    ),
    (
        "For the birthday {person} received {=gift}.",
        "What did {person} receive for the birthday?",
        "{=gift}",
    ),
    (
        "The new bridge in {city} is made of {=material}.",
        "What is the new bridge in {city} made of?",
        "{=material}",
    ),
    (
        "{person} explained that the best boxes are made of {=material}.",
        "Which material makes the best boxes, according to {person}?",
        "{=material}",
    ),
    (
        "The opening was delayed because of {=cause}.",
        "Why was the opening delayed?",
        "Because of {=cause}",
    ),
    (
        "{person} came late because of {=cause}.",
        "What was the reason that {person} came late?",
        "{=cause}",
    ),
    (
        "The main purpose of the project in {city} is {=purpose}.",
        "What is the main purpose of the project in {city}?",
        "{=purpose}",
    ),
    (
        "{person} started the club {=purpose}.",
        "Why did {person} start the club?",
        "{=purpose}",
    ),
    (
        "Next year the company will {=plan}.",
        "What will the company do next year?",
        "It will {=plan}",
    ),
    (
        "{person} suggested that they should {=plan}.",
        "What did {person} suggest?",
        "That they should {=plan}",
    ),
    ("{person} studied {=subject} in {city}.", "What did {person} study in {city}?", "{=subject}"),
    (
        "After school {person} wants to teach {=subject}.",
        "Which subject does {person} want to teach?",
        "{=subject}",
    ),
    (
        "{person} travelled to {city} {=transport}.",
        "How did {person} travel to {city}?",
        "{=transport}",
    ),
    (
        "The work on the roof took {=duration}.",
        "How long did the work on the roof take?",
        "{=duration}",
    ),
    (
        "{person} has lived in {city} for {=duration}.",
        "For how long has {person} lived in {city}?",
        "For {=duration}",
    ),
    (
        "The tickets for the concert cost {=price}.",
        "How much do the tickets for the concert cost?",
        "{=price}",
    ),
    (
        "{person} paid {=price} for the old table.",
        "How much did {person} pay for the old table?",
        "{=price}",
    ),
    (
        "The festival in {city} takes place in {=month}.",
        "In which month does the festival in {city} take place?",
        "In {=month}",
    ),
    ("{person} was born in {=city}.", "Where was {person} born?", "In {=city}"),
    (
        "The next conference will be in {=city}.",
        "In which city will the next conference be?",
        "In {=city}",
    ),
)


@dataclass(frozen=True)
class Fact:
    """A sentence, a question about it, four choices, and the number of the right one."""

    sentence: str
    question: str
    choices: tuple[str, ...]
    answer: int


def invent(seed: str) -> Fact:
    """A fact, drawn by `seed`; the wrong choices are other values of the same kind."""
    draw = random.Random(f"fact {seed}")
    template = draw.choice(TEMPLATES)
    kind = template[2].partition("{=")[2].partition("}")[0]
    values = draw.sample(VALUES[kind], 4)
    known = {
        other: draw.choice([value for value in VALUES[other] if value not in values])
        for other in VALUES
        if f"{{{other}}}" in template[0] + template[1]
    }

    def fill(text: str, answer: str) -> str:
        text = text.replace(f"{{={kind}}}", answer)
        for other, value in known.items():
            text = text.replace(f"{{{other}}}", value)
        return text[0].upper() + text[1:]

    right = draw.randrange(4)
    values[0], values[right] = values[right], values[0]
    order = [fill(template[2], value) for value in values]
    sentence = fill(template[0], values[right])
    return Fact(sentence, fill(template[1], values[right]), tuple(order), right)


def hide(sentences: Sequence[str], fact: Fact, seed: str) -> tuple[list[str], int]:
    """Put the fact's sentence between others, at a place drawn by `seed`.

    Returns: all sentences, and the number of the fact's.
    """
    place = random.Random(f"place {seed}").randrange(len(sentences) + 1)
    return [*sentences[:place], fact.sentence, *sentences[place:]], place
