"""The storybook's words: slots, whose record is drawn once per story and then repeated."""

from __future__ import annotations

from stages.storybook.grammar import Record, skewed

Slot = list[tuple[int, Record]]


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",")]


HIS_NAMES = _split("Tim, Tom, Ben, Max, Sam, Jack")
HER_NAMES = _split("Lily, Mia, Anna, Sue, Lucy, Emma")
ANIMALS = _split(
    "rabbit, cat, bear, dog, mouse, fox, squirrel, turtle, pig, monkey, lion, elephant, frog, deer, tiger, goat, "
    "panda, sheep, wolf, koala, donkey, cow, giraffe, hamster"
)
PRONOUNS = (
    {"he": "he", "He": "He", "his": "his", "His": "His", "him": "him"},
    {"he": "she", "He": "She", "his": "her", "His": "Her", "him": "her"},
)


def _with_article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _words(slot: str, words: str) -> Slot:
    """A slot of words (split at commas) with the forms {slot} and {a slot}."""
    chosen = _split(words)
    return [
        (weight, {slot: word, f"a {slot}": _with_article(word)})
        for weight, word in zip(skewed(len(chosen)), chosen, strict=True)
    ]


def _heroes() -> Slot:
    """The main character: a name, what it is, and the pronouns that go with the name."""
    heroes: Slot = []
    for child, names, pronouns in (("boy", HIS_NAMES, PRONOUNS[0]), ("girl", HER_NAMES, PRONOUNS[1])):
        kinds = [(sum(skewed(len(ANIMALS))) // 2, child), *zip(skewed(len(ANIMALS)), ANIMALS, strict=True)]
        for weight, name in zip(skewed(len(names)), names, strict=True):
            heroes.extend(
                (weight * share, {"name": name, "kind": kind, "a kind": _with_article(kind), **pronouns})
                for share, kind in kinds
            )
    return heroes


def _helpers() -> Slot:
    """Someone who helps: "a wise owl" at first, then "the owl"."""
    manners = _split("kind, old, wise, friendly, gentle, strong, tall, brave, smiling, clever, quiet, young")
    nouns = _split(
        "owl, farmer, fisherman, goose, baker, horse, wizard, nurse, shepherd, sailor, crow, giant, beaver, doctor, "
        "camel, gardener, knight, pirate, fairy"
    )
    return [
        (
            first * second,
            {
                "a helper": _with_article(f"{manner} {noun}"),
                "A helper": _with_article(f"{manner} {noun}").capitalize(),
                "the helper": f"the {noun}",
                "The helper": f"The {noun}",
            },
        )
        for first, manner in zip(skewed(len(manners)), manners, strict=True)
        for second, noun in zip(skewed(len(nouns)), nouns, strict=True)
    ]


SLOTS: dict[str, Slot] = {
    "hero": _heroes(),
    "helper": _helpers(),
    "friend": _words(
        "friend",
        "Pip, Billy, Polly, Ted, Fred, Milo, Rose, Harry, Dora, Toby, Ivy, Roger, Penny, Gus, Ada, Ralph, Tina, Otto, "
        "Hazel, Finn, Betty, Jim, Maggie, Louis, Pearl, Rudy, Stella, Ned",
    ),
    "family": _words(
        "family",
        "mom, dad, grandma, grandpa, sister, brother, aunt, uncle, cousin, teacher, neighbor, tutor, twin, coach",
    ),
    "trait": _words(
        "trait",
        "kind, brave, happy, clever, funny, quiet, cheerful, playful, silly, curious, shy, careful, smart, polite, "
        "gentle, friendly, noisy, lazy, messy, sleepy, wise, merry, lucky, lively, wild, hungry, lonely, proud, "
        "serious, strong, bold, loyal, patient, stubborn, fearless, hopeful, witty, timid, nervous, "
        "thoughtful, caring, modest, tidy, graceful, clumsy, gloomy, calm, neat",
    ),
    "color": _words(
        "color",
        "red, blue, green, yellow, pink, purple, orange, white, black, brown, gold, silver, gray, violet",
    ),
    "toy": _words(
        "toy",
        "ball, doll, car, boat, train, truck, puzzle, robot, wagon, whistle, scooter, bike, sled, puppet, "
        "pirate ship, dinosaur, marble, rocking horse, sword, dollhouse, drum, "
        "teddy bear, hula hoop, tractor, spaceship, castle, tricycle",
    ),
    "thing": _words(
        "thing",
        "stone, key, shell, feather, coin, box, ring, bell, lamp, bottle, button, egg, crown, watch, spoon, book, "
        "candle, necklace, mask, clock, "
        "map, mirror, bracelet, wand, compass, star, pencil, pebble, crystal",
    ),
    "treat": _words(
        "treat",
        "cake, cookie, pie, apple, sandwich, muffin, pear, banana, peach, pancake, carrot, bun, waffle, cupcake, "
        "potato, donut, pizza, pudding, mango, lemon tart, "
        "bagel, pretzel, plum, roll, dumpling, tomato, biscuit",
    ),
    "taste": _words("taste", "big, sweet, warm, good, fresh, tasty, huge, round, lovely, juicy"),
    "wear": _words(
        "wear",
        "hat, scarf, coat, cap, sweater, ribbon, mitten, jacket, glove, sock, cape, apron, shirt, dress, belt, boot, "
        "bonnet, slipper, vest, bow, shawl, skirt",
    ),
    "creature": _words(
        "creature",
        "bird, kitten, puppy, duck, butterfly, bee, snail, lamb, chick, ladybug, mole, pony, bat, swan, robin, worm, "
        "lizard, parrot, cricket, spider, toad, beetle, seal, crab, "
        "penguin, hedgehog, bunny, pigeon, moth, calf, dove, badger, raccoon, peacock",
    ),
    "place": _words(
        "place",
        "park, lake, beach, farm, market, river, zoo, pond, school, fair, playground, harbor, library, bakery, "
        "museum, station, shop, theater, stable, castle, garden, circus, fountain",
    ),
    "wild": _words(
        "wild",
        "forest, woods, garden, meadow, field, jungle, valley, hills, orchard, desert, swamp, mountains, park, caves, "
        "canyon, marsh",
    ),
    "home": _words(
        "home",
        "village, town, house, cottage, castle, mansion, city, cabin, hotel, tower, barn, hut, palace, mill, "
        "lighthouse, forest, garden, farm, treehouse, valley, bakery, library, cave, windmill, houseboat, meadow",
    ),
    "skill": _words(
        "skill",
        "ride a bike, swim, read, whistle, skate, dance, climb trees, juggle, paint, sing, ski, knit, cook, write",
    ),
    "plant": _words(
        "plant",
        "sunflower, pumpkin, carrot, bean, rose, tomato, cherry, melon, tulip, turnip, corn, lemon, pepper, onion",
    ),
    "fear": _words(
        "fear",
        "the dark, thunder, dogs, spiders, deep water, ghosts, loud noises, storms, shadows, heights, bugs, snakes, strangers",
    ),
    "tune": _words("tune", "drum, flute, piano, guitar, violin, trumpet, harp, banjo, horn, cello"),
}
