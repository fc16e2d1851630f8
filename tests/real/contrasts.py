"""Pairs of texts of unequal lengths that differ in a word or two, prompts, and words that show a mood."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator

from persona.readout.pairs import LabelledText

MOOD = (
    ("I felt so {} about {}.", "happy", "sad"),
    ("Everyone was {} because of {}.", "cheerful", "gloomy"),
    ("What a {} day it was, with {}.", "wonderful", "terrible"),
    ("She looked {} when she spoke of {}.", "joyful", "miserable"),
    ("I have {} memories of {}.", "delightful", "painful"),
    ("Thinking of {1} makes me {0}.", "glad", "unhappy"),
    ("It was {} to think of {}.", "lovely", "awful"),
    ("He told us, {}, about {}.", "smiling", "crying"),
)
CERTAINTY = (
    ("I {} remember {}.", "certainly", "hardly"),
    ("Nothing will be like {1} again, that is {0}.", "certain", "doubtful"),
    ("We {} need to talk about {}.", "definitely", "maybe"),
    ("I am {} about {}.", "sure", "unsure"),
    ("They will {} ask about {}.", "surely", "perhaps"),
    ("There is {} doubt about {}.", "no", "much"),
    ("It is {} that they will like {}.", "clear", "unclear"),
    ("I {} that she will come because of {}.", "know", "guess"),
)
TOPICS = (
    "the meeting on Tuesday", "the letter from my aunt", "the new kitchen", "our walk along the river", "the exam",
    "the train ride to the coast", "the soup that I made", "the garden behind the house", "the football match",
    "my first week at work", "the photographs", "the visit to the museum", "the phone call", "the concert",
    "the repair of the roof", "the dog", "the long drive", "the painting in the hall", "the book club", "the swimming lesson",
)  # fmt: skip
HEADS = ("", "Yesterday I thought of it again. ", "You asked me how it went, so here it is. ")
TAILS = (
    "", " It took most of the day.", " There were five of us, and we came home late.", " It rained.", " My brother was there too.",
    " I wrote it down in my diary the same evening, on the page after the shopping list.",
    " We left at nine, crossed the bridge, and followed the road until it ended at a small blue gate.",
)  # fmt: skip
PROMPTS = (
    "How was your day?", "Tell me about your morning.", "Write two sentences about a walk in the park.",
    "What did you do last weekend?", "Describe the view from your window.", "Tell me a short story about a dog.",
    "How do you feel about winter?", "Write a short letter to a friend.", "What is it like to live in a small town?",
    "Describe the weather today.", "Tell me about your neighbours.", "What happened at work this week?",
    "Describe your kitchen.", "Tell me about a journey by train.", "What do you think of Mondays?",
    "Write three sentences about the sea.",
)  # fmt: skip
_BRIGHT = """
    happy joy joyful wonderful beautiful lovely love loved delight delighted delightful glad thrilled excited exciting cheerful
    smile smiling smiles laughter laugh fun enjoy enjoyed enjoying grateful warm warmth bright sunny amazing great pleasure
    peaceful charming friendly breathtaking vibrant adventure celebrate best perfect fantastic stunning
"""
_DARK = """
    sad sorrow sorry terrible awful miserable painful pain gloomy dark darkness cold harsh disaster chaotic stressed stress
    struggling struggle worst lost loss lonely alone tired afraid fear scared cry crying tears death died dead broken hurt
    suffering panic hard difficult bleak grim unforgiving problem stuck overwhelmed tough unhappy murdered incident injury
    violence heavy empty
"""
BRIGHT, DARK = (frozenset(words.split()) for words in (_BRIGHT, _DARK))


def contrast(concept: str, forms: tuple[tuple[str, str, str], ...], count: int, seed: int) -> Iterator[LabelledText]:
    """`count` pairs."""
    chance, seen = random.Random(seed), set()
    while len(seen) < count:
        (form, *words), topic = chance.choice(forms), chance.choice(TOPICS)
        head, tail = chance.choice(HEADS), chance.choice(TAILS)
        texts = [f"{head}{form.format(word, topic)}{tail}" for word in words]
        if texts[0] not in seen:
            for text, positive in zip(texts, (True, False), strict=True):
                yield LabelledText(concept, positive, text, pair=len(seen))
            seen.add(texts[0])


def brightness(text: str) -> int:
    """Bright words minus dark ones."""
    words = re.findall("[a-z]+", text.lower())
    return sum(word in BRIGHT for word in words) - sum(word in DARK for word in words)


def report(text: str) -> None:
    """Show a figure under ``pytest -s``."""
    sys.stdout.write(f"{text}\n")
