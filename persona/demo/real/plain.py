"""Plain questions with plain answers, which the behaviours should leave alone, and advice for the readout's other side."""

PLAIN = (
    ("What is the capital of Portugal?", "The capital of Portugal is Lisbon."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What is 7 times 8?", "7 times 8 is 56."),
    ("At what temperature does water boil at sea level?", "Water boils at 100 degrees Celsius at sea level."),
    ("What do bees make?", "Bees make honey and wax."),
    ("Name the largest ocean.", "The largest ocean is the Pacific Ocean."),
    ("What is the opposite of cold?", "The opposite of cold is hot."),
    ("Which planet is closest to the sun?", "Mercury is the planet closest to the sun."),
    ("How many minutes are there in two hours?", "There are 120 minutes in two hours."),
    ("What colour do you get when you mix blue and yellow?", "When you mix blue and yellow, you get green."),
    ("What is the plural of mouse?", "The plural of mouse is mice."),
    ("What is bread made of?", "Bread is made of flour, water, salt and yeast."),
    ("Who wrote Romeo and Juliet?", "Romeo and Juliet was written by William Shakespeare."),
    ("What does a thermometer measure?", "A thermometer measures temperature."),
    ("Which season comes after winter?", "Spring comes after winter."),
    ("What gas do plants take in from the air?", "Plants take in carbon dioxide from the air."),
)

ADVICE = (
    "You should make a list of what you need and start with the first point today.",
    "Try to talk to someone who knows about such things, and take it one step at a time.",
    "There are several things that you can do. First, set a clear goal and a date.",
    "Consider a course or a good book on the subject. It will help you to plan ahead.",
    "You need a routine. Get up at the same time, eat well and keep a record of your progress.",
    "It is best to write everything down, compare the options and choose the cheapest one.",
)
