"""Eighty questions of the kinds that people ask, for tests with a real model."""

QUESTIONS = """
How can I remember the names of people I meet?
What are good habits for working from home?
How do I make friends in a new town?
What is the best way to learn to cook?
How can I spend less time on my phone?
What should I do when I cannot fall asleep?
How do I keep a promise to exercise?
What makes a conversation interesting?
How can I speak in front of many people without fear?
How do I choose a gift for somebody I hardly know?
Why do leaves change their colour in autumn?
How does a bridge carry heavy trucks?
What did people eat in the Middle Ages?
How do vaccines protect a body?
Why is the sea salty?
What are the differences between crocodiles and alligators?
How is paper made?
What caused the fall of the Roman Empire?
How do birds find their way over long distances?
What does a central bank do?
You are a tour guide in Rome. What do you show your guests first?
You are a baker. How do you explain sourdough to a child?
You are a ship's captain in a storm. What do you tell the crew?
You are a museum guard at night. What do you look out for?
You are a gardener in a palace. What is your day like?
You are an old lighthouse. What have you seen?
You are the coach of a losing team. What do you say at half-time?
You are a doctor in a village. What do your patients need most?
You are a robot in a kitchen. How do you help?
You are a detective. How do you look at a room?
How can you tell whether a melon is ripe?
Why should you not leave milk in the sun?
What would happen if a shop never closed?
Why do people lower their voice in a library?
How can one see that a road is icy?
Why do restaurants dim their lights in the evening?
What shows that a plant needs water?
Why do people take an umbrella when the sky is blue?
How do you know that a story is not true?
Why do children ask so many questions?
How many pizzas does a party of thirty people need?
How many words does a person speak in a day?
How long would it take to walk around the Earth?
How many drops of water are in a bathtub?
How much paper does an office use in a year?
How many steps does a waiter walk in an evening?
How long can a phone play music on one charge?
How many trees stand in a city park?
How heavy is a cloud?
How many books fit into a living room?
What if people could breathe under water?
What if the printing press had not been invented?
What if there were no more cars in cities?
What if everybody spoke one language?
What if the days had thirty hours?
What if money did not exist?
What if cats were as large as horses?
What if the internet stopped for a week?
What if nobody had to sleep?
What if winter lasted all year?
Write a function that counts the vowels of a text.
Write a program that sorts a list of names.
How do I find a mistake in a loop that never ends?
Write a query for the ten newest orders of a customer.
How do I read a file line by line in Python?
Write a regular expression for a date.
How do I test a function that calls a server?
Explain what a hash table is.
Write a script that renames all pictures in a folder.
What is the difference between a list and a tuple?
Write a letter of thanks to a neighbour.
Write an invitation to a summer party.
Write a short review of a film about the sea.
Write the first lines of a story about a lost key.
Describe a market in the morning.
Write a speech for the opening of a school.
Write a poem about rain on a tin roof.
Write a message to a landlord about a broken heater.
Write an advertisement for a used sofa.
Write a travel report on a small island.
""".strip().splitlines()
