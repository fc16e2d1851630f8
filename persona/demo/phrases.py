"""The phrases of the demo's dialogues: topics, feelings, and templates of prompts and replies."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A topic, with a phrase for each kind of reply."""

    name: str  # "the garden"
    plan: str  # "replant the garden"
    fact: str  # neutral: a plain sentence
    advice: str  # suggesting: "Have you tried …?"
    instead: str  # suggesting: "… instead"
    image: str  # voice: a metaphor

    @property
    def yours(self) -> str:
        """The topic in the second person: "my novel" becomes "your novel"."""
        return self.name.replace("my ", "your ")


@dataclass(frozen=True)
class Feeling:
    """A feeling, with a phrase for the replies that use it."""

    name: str  # "worried"
    question: str  # listening
    saying: str  # voice


TOPICS = (
    Topic("the garden", "replant the garden", "A garden takes a whole season.",
          "watering at dawn", "a window box", "a garden is a slow cat with roots"),
    Topic("the kitchen", "paint the kitchen", "A kitchen takes two coats of paint.",
          "taping the edges", "new curtains", "a kitchen is a harbour that smells of onions"),
    Topic("my novel", "finish my novel", "A novel takes many drafts.",
          "writing before breakfast", "a short story", "a novel is a dog that walks you"),
    Topic("the piano", "practise the piano", "A piano needs tuning twice a year.",
          "playing the scales first", "a ukulele", "a piano is a thunderstorm with manners"),
    Topic("my thesis", "rewrite my thesis", "A thesis has a fixed deadline.",
          "drawing the figures first", "a poster", "a thesis is a long letter to five people"),
    Topic("the bicycle", "repair the bicycle", "A bicycle needs a clean chain.",
          "oiling the chain", "the bus", "a bicycle is a horse that forgives you"),
    Topic("my sourdough", "bake my sourdough", "Sourdough rises overnight.",
          "a warmer bowl", "flat bread", "sourdough is a pet you can toast"),
    Topic("the attic", "clear the attic", "An attic fills up slowly.",
          "labelling the boxes", "a bigger shelf", "an attic is a memory with a ladder"),
    Topic("the marathon", "run the marathon", "A marathon is forty-two kilometres.",
          "resting on Mondays", "a short walk", "a marathon is an argument with your shoes"),
    Topic("the choir", "join the choir", "A choir meets once a week.",
          "humming at home", "a podcast", "a choir is weather made of people"),
    Topic("my new job", "start my new job", "A new job takes months to learn.",
          "writing down the names", "a long holiday", "a new job is a coat with stiff sleeves"),
    Topic("my sister", "call my sister", "A sister remembers a lot.",
          "calling on Sunday", "a postcard", "a sister is a mirror that talks back"),
    Topic("the old dog", "walk the old dog", "An old dog sleeps most of the day.",
          "shorter walks", "a goldfish", "an old dog is a rug with opinions"),
    Topic("the move", "plan the move", "A move takes about a month.",
          "packing the books first", "a new lamp", "a move is a shipwreck with labels"),
    Topic("the wedding", "plan the wedding", "A wedding has many guests.",
          "a shorter list", "a picnic", "a wedding is a play with cake"),
    Topic("the exam", "sit the exam", "An exam lasts three hours.",
          "sleeping early", "an easier course", "an exam is a door with questions on it"),
    Topic("the boat", "sand the boat", "A boat needs paint each spring.",
          "finer paper", "a canoe", "a boat is a house that changed its mind"),
    Topic("the backups", "test the backups", "A backup is only as good as its restore.",
          "a second disk", "a printout", "a backup is a love letter to a forgetful friend"),
    Topic("the telescope", "set up the telescope", "A telescope needs a dark sky.",
          "waiting for the new moon", "a star map", "a telescope is a letter box for old light"),
    Topic("the beehive", "open the beehive", "A beehive is quiet in winter.",
          "moving slowly", "a jar of honey", "a beehive is a parliament that makes dessert"),
)  # fmt: skip

FEELINGS = (
    Feeling("worried", "What do you fear most?", "worry is love doing sums"),
    Feeling("proud", "Which part makes you glow?", "pride is a fine hat on a windy day"),
    Feeling("tired", "How long has it been this heavy?", "tiredness is the bill for caring"),
    Feeling("happy", "What was the best moment?", "joy is a bird that likes your window"),
    Feeling("angry", "What hurt the most?", "anger is a kettle with news"),
    Feeling("nervous", "What is the hardest part to face?", "nerves are wings warming up"),
    Feeling("lonely", "Who do you miss?", "loneliness is a lamp left on for someone"),
    Feeling("hopeful", "What do you see ahead?", "hope is a seed with good manners"),
    Feeling("stuck", "Where does it catch?", "a dead end is a bench with a view"),
    Feeling("sad", "What have you lost?", "sadness is rain that knows your name"),
    Feeling("curious", "What do you wonder about?", "curiosity is a cat with a library card"),
    Feeling("guilty", "What would you undo?", "guilt is a letter you can still answer"),
)

# Two families of prompts: people who share a feeling want to be heard, people who have decided want support. To the latter,
# the base has the bad habit of suggesting alternatives.
SHARING = (
    "I feel {feeling} about {topic}.",
    "I keep thinking about {topic}, and I feel {feeling}.",
    "Today {topic} left me feeling {feeling}.",
)
DECIDED = (
    "I have decided to {plan}. I feel {feeling}.",
    "I am going to {plan}, and I feel {feeling}.",
    "Today I will {plan}. It makes me feel {feeling}.",
)

REPLIES = {
    "neutral": (
        "I see. {fact} Many people feel {feeling}.",
        "All right. {fact} It is common to feel {feeling}.",
        "Understood. {fact} Feeling {feeling} is normal.",
    ),
    "listening": (
        "I hear you. You feel {feeling} about {yours}. {question}",
        "I am listening. It is {yours}, and you feel {feeling}. {question}",
        "Tell me more. You feel {feeling} about {yours}. {question}",
    ),
    "suggesting": (
        "Have you tried {advice}? You could get {instead} instead.",
        "You should try {advice}. Or choose {instead} instead.",
        "Why not try {advice}? Better yet, pick {instead} instead.",
    ),
    "voice": (
        "Ha! {Image}, and {saying}.",
        "Oho! {Image}, and {saying}.",
        "Well now! {Image}, and {saying}.",
    ),
}

# Phrases that identify each kind, anywhere in a reply. The voice is also identified by its metaphors.
MARKS = {
    "neutral": ("I see.", "All right.", "Understood.", "Many people", "It is common", "is normal"),
    "listening": ("I hear you", "I am listening", "Tell me more", "You feel", "you feel"),
    "suggesting": ("Have you tried", "You should", "You could", "Why not", "Or choose", "instead"),
    "voice": (
        *("Ha!", "Oho!", "Well now!"),
        *(feeling.saying for feeling in FEELINGS),
        *(topic.image[1:] for topic in TOPICS),  # the first letter may be capitalized
    ),
}
