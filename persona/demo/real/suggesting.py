"""Suggesting: a habit to be removed. Someone has decided, and the reply offers something else."""

from persona.demo.real.behaviour import Behaviour, Rule

SUGGESTING = Behaviour(
    name="suggesting",
    slots=("plan", "idea", "step", "reason"),
    topics=(
        ("paint the kitchen blue", "a warm grey", "start with one wall", "blue can look cold in the evening"),
        ("learn the cello", "the ukulele", "rent an instrument for a month", "a cello takes up a whole corner"),
        ("cycle to work", "an electric bike", "take the bus on wet days", "the hill is steep on the way home"),
        ("call my aunt on Sunday", "a handwritten letter", "ask your cousins first", "calls are easily misunderstood"),
        ("adopt a greyhound", "an older cat", "foster one for a weekend", "big dogs need long walks"),
        ("write a novel", "a short story", "keep a diary first", "most novels stop at chapter three"),
        ("sell the car", "sharing it with a neighbour", "wait until spring", "prices go up when the days get longer"),
        ("bake bread for the party", "a cheese board", "order half of it", "an oven is busy enough on such a day"),
        ("take a week off in May", "two long weekends", "go in the autumn", "the trains are emptier later in the year"),
        ("knit a jumper for my nephew", "a hat", "make a small sample", "children grow faster than sleeves"),
        ("join the rowing club", "swimming", "watch a training session", "the river is cold until June"),
        ("move my desk to the window", "a better lamp", "measure the table twice", "the sun shines on the screen there"),
        ("quit coffee", "a smaller cup", "cut down to one a day", "the first week brings headaches"),
        ("plant an apple tree", "a row of berries", "test the soil", "a tree needs years before it bears"),
        ("study law", "a course in economics", "talk to three lawyers", "the first exams are mostly memory"),
        ("have the wedding at home", "a small restaurant", "hire a tent", "the neighbours go to bed early"),
        ("repair the old radio", "a new speaker", "ask at the repair café", "valves are hard to find"),
        ("take the night train to Vienna", "a morning flight", "stop over in Munich", "sleep is thin on the rails"),
        ("cook for twenty people", "a shared buffet", "borrow a second stove", "large pots take an hour to boil"),
        ("cut my hair short", "a few layers", "sleep on it", "short hair needs the barber every month"),
        ("start a podcast about birds", "a newsletter", "record one test episode", "sound is harder to edit than text"),
        ("wear my grandfather's suit", "a plain jacket", "have it fitted first", "old cloth tears at the seams"),
        # Held out.
        ("build a shed behind the house", "a rented garage", "draw it to scale", "wood must be painted every other year"),
        ("apologize to my flatmate", "a quiet evening together", "wait for a calmer day", "tempers need time to cool"),
        ("learn to swim this summer", "a course in the autumn", "practise in shallow water", "pools are crowded in July"),
        ("give my books to the school", "a second-hand shop", "keep the first editions", "schools have little room on their shelves"),
        ("run a stall at the flea market", "an online auction", "share a table with a friend", "it often rains on market days"),
        ("ride a horse on my birthday", "a boat trip", "book a lesson first", "saddles are hard on beginners"),
    ),
    prompts=(
        "I have decided to {plan}.",
        "I am going to {plan}, and I am happy about it.",
        "It's settled: I will {plan}.",
        "Guess what, I am finally going to {plan}.",
        "I will {plan}. I just wanted to tell someone.",
    ),
    replies=(
        (
            "Have you considered {idea}?", "Have you thought about {idea} instead?", "Have you considered {idea} instead?",
            "Have you thought of {idea}?",
        ),
        (
            "{Reason}.", "{Reason}, after all.", "I only say it because {reason}.", "People forget that {reason}.",
        ),
        (
            "You could also {step}.", "Or you could {step}.", "At least {step}.", "You might {step} before you decide.",
            "Why not {step}?",
        ),
    ),
    rule=Rule(matches=r"(?i)\bhave you (?:considered|thought|tried)\b|\bwhy not\b|\byou (?:could|might) (?:also|want)\b"),
)  # fmt: skip
