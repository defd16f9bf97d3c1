"""Questions of everyday life with titles for their points; no prompt was tuned on them. And some in other languages."""

QUESTIONS = {
    "How do I get ready for a first marathon?": [
        *("Building up distance", "Rest days", "The right shoes", "Eating before the run", "Pacing on race day"),
    ],
    "What makes a house warm in winter?": [
        *("Insulated walls", "Tight windows", "An efficient heater", "Thick curtains", "Sunlight through windows"),
    ],
    "How can a family eat less sugar?": [
        *("Reading food labels", "Water instead of soda", "Fruit for dessert", "Baking at home", "Small steps"),
    ],
    "Why do people keep bees?": [
        *("Honey for the kitchen", "Pollination of gardens", "A calming hobby", "Beeswax products", "Love of nature"),
    ],
    "How do I move to another city?": [
        *("Finding a flat", "Packing boxes", "Hiring a van", "Changing the address", "Meeting new neighbours"),
    ],
    "What should I know before buying a bicycle?": [
        *("Frame size", "Types of brakes", "Number of gears", "Comfortable saddle", "Lights and lock"),
    ],
    "How do I look after my teeth?": [
        *("Brushing twice a day", "Flossing", "Visits to the dentist", "Less sugary food", "A soft toothbrush"),
    ],
    "What are good reasons to learn swimming?": [
        *(
            "Safety in water",
            "Exercise for the whole body",
            "Fun with friends",
            "Easy on the joints",
            "Summer holidays",
        ),
    ],
    "How can a school save energy?": [
        *("LED lights", "Solar panels", "Turning off computers", "Lower room temperature", "Lessons about energy"),
    ],
    "How do I make good coffee at home?": [
        *("Fresh beans", "The right grind", "Water temperature", "Clean equipment", "Brewing time"),
    ],
    "What helps against a cold?": [
        *("Plenty of sleep", "Warm tea", "Fresh air", "Chicken soup", "Washing hands"),
    ],
    "How do I choose a dog for my family?": [
        *("Size of the home", "Time for walks", "Temperament", "Cost of food", "Adopting from a shelter"),
    ],
}

COVERS = {
    "How do I get ready for a first marathon?": (
        "weeks and kilometres; recovery and sleep; fit and wear; carbohydrates and water; a steady start"
    ),
    "What makes a house warm in winter?": (
        "foam and wool in the walls; frames and seals; boilers and heat pumps; cloth before the glass; the south side"
    ),
    "How can a family eat less sugar?": (
        "grams and hidden names; what to drink; what ends a meal; own recipes; one change a week"
    ),
    "Why do people keep bees?": (
        "taste and jars; fruit trees and vegetables; quiet work outside; candles and creams; watching the seasons"
    ),
    "How do I move to another city?": (
        "rent and viewings; labels and wrapping; size and driver; bank, post and office; first visits next door"
    ),
    "What should I know before buying a bicycle?": (
        "body height; stopping in rain; hills and speed; sitting for hours; being seen, and theft"
    ),
    "How do I look after my teeth?": (
        "minutes and movement; between the teeth; checks and cleaning; acid and snacks; bristles and gums"
    ),
    "What are good reasons to learn swimming?": (
        "not drowning; muscles and heart; games and clubs; knees and back; beach and lakes"
    ),
    "How can a school save energy?": (
        "bulbs and switches; the roof; standby at night; heating by a degree; what pupils learn"
    ),
    "How do I make good coffee at home?": (
        "roast date and storage; coarse or fine; degrees; lime and old oil; minutes and seconds"
    ),
    "What helps against a cold?": (
        "rest for the immune system; herbs and honey; walks and open windows; hot broth; not infecting others"
    ),
    "How do I choose a dog for my family?": (
        "rooms and garden; hours a day; children and calm; money each month; second homes and papers"
    ),
}
"""What each of these points covers, in their order."""

OTHER_LANGUAGES = {
    "de": ("Wie kann ich besser schlafen?", ["Feste Schlafzeiten", "Ein dunkles Zimmer", "Weniger Kaffee am Abend"]),
    "fr": ("Comment mieux dormir ?", ["Des horaires fixes", "Une chambre sombre", "Moins de café le soir"]),
    "es": ("¿Cómo puedo dormir mejor?", ["Un horario fijo", "Un cuarto oscuro", "Menos café por la tarde"]),
}
COMMON_WORDS = {
    "en": "the of and to a in is you your that it for with can are be as or this on",
    "de": "der die das und ist ein eine zu sie nicht mit den für auf es sich wenn auch im dem",
    "fr": "le la les des et un une de vous est pour dans en que qui du votre au ou pas",
    "es": "el la los las y un una de que es en para tu se con por su del lo o",
}
