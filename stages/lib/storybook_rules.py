"""The storybook's rules around its plots: openings, shared words and endings (see grammar.py for the signs)."""

from __future__ import annotations

from stages.lib.storybook_plots import PLOTS

OPENINGS = [
    "6*Once upon a time[,|] there was {a trait}<small> {kind} [4*named|1*called] {name}. {name} <likes>. ",
    "5*Once upon a time, {a trait} {kind} [3*named|1*called] {name} lived in a <size> {home}. {name} <likes>. ",
    "2*Once upon a time, in a <size> {home}, there lived {a trait} {kind} named {name}. {name} <likes>. ",
    "1*Once upon a time, there was {a trait} {kind} named {name} who <likes>. ",
    "2*Long ago, {a trait} {kind} named {name} lived in a <size> {home}. {name} <likes>. ",
    "4*{name} was {a trait}<small> {kind} who <likes>. ",
]

WORDS = {
    "who": ["7*{name}|1*{he}"],
    "Who": ["7*{name}|1*{He}"],
    "when": [
        "1*One day",
        "5*One <weather> [day|morning|afternoon|evening]",
        "3*[On Sunday|Last summer|After lunch|That week|At noon|On Monday|In spring|Last week|On Friday|In May]",
    ],
    "likes": ["[loved|liked] to <hobby>"],
    "weather": [
        (
            "sunny|rainy|windy|warm|cold|bright|foggy|chilly|stormy|gray|hot|cloudy|lovely|quiet|snowy|golden|breezy|"
            "misty|frosty|mild|peaceful|wet"
        )
    ],
    "hobby": [
        (
            "sing|laugh|draw|explore|daydream|hum|run fast|build things|tell jokes|count stars|pick berries|"
            "skip rope|nap|jump|play outside|eat|help others|climb|hike|dig holes|bake|collect leaves|make friends|"
            "chase clouds|travel|wear hats|ask questions|solve riddles|splash|feed ducks"
        )
    ],
    # what is said, and how
    "says": ["said|whispered|smiled|laughed|called|sighed|chuckled|murmured|nodded|grinned"],
    "cheers": ["said|cried|called|shouted|laughed|sang|cheered|giggled|yelled|whispered"],
    "warns": ["cried|called|shouted|yelled|said|begged|squeaked"],
    "thanks": ['"[Thank you|Thanks so much|You are so kind|How lucky I am]!" <cheers> {name}.|<happy>'],
    # adverbs, each for its kind of verb
    "fast": [
        ("quickly|bravely|suddenly|swiftly|boldly|eagerly|happily|kindly|gladly|calmly|cleverly|politely|carefully|nimbly")
    ],
    "hard": [
        ("carefully|slowly|quickly|patiently|eagerly|calmly|quietly|bravely|cleverly|busily|gladly|steadily|secretly|happily")
    ],
    "softly": [
        (
            "slowly|quietly|carefully|gently|softly|patiently|calmly|kindly|shyly|silently|finally|gladly|bravely|"
            "tenderly|sweetly"
        )
    ],
    "warmly": [
        ("kindly|gently|softly|warmly|calmly|sweetly|patiently|quietly|cheerfully|wisely|gladly|tenderly|quickly|lovingly")
    ],
    "gladly": ["happily|gladly|proudly|cheerfully|joyfully|playfully|eagerly|merrily|quickly|kindly|finally|warmly"],
    "bravely": ["bravely|slowly|boldly|carefully|quietly|calmly|nervously|proudly|shyly|quickly|finally|politely"],
    "clumsily": ["clumsily|suddenly|carelessly|quickly|foolishly|secretly|hastily|eagerly|greedily|sleepily"],
    "slyly": ["secretly|quickly|quietly|suddenly|silently|slyly|rudely|greedily|playfully|boldly"],
    "wildly": ["wildly|happily|quickly|boldly|suddenly|joyfully|playfully|loudly|clumsily|eagerly|carelessly"],
    "truly": ["finally|soon|slowly|quickly|truly|really|happily|gladly|now|quietly"],
    # adjectives; all begin with a consonant's sound, so that "a" fits
    "small": ["4*|5* little|4* young|3* tiny|2* small|1* big"],
    "size": [
        (
            "small|quiet|faraway|pretty|cozy|sunny|busy|snowy|lonely|hidden|green|peaceful|tiny|lovely|windy|magical|"
            "misty|grand|charming|dark|big|silent|crooked|beautiful|leafy|sleepy|cheerful|strange|bright"
        )
    ],
    "land": [
        (
            "quiet|misty|green|sunny|big|snowy|lonely|peaceful|hidden|windy|magical|dark|busy|silent|wide|beautiful|"
            "muddy|foggy|nearby|lovely"
        )
    ],
    "room": [("garden|kitchen|attic|bathroom|basement|hall|barn|shed|cellar|cupboard|closet|bedroom|garage|laundry|pantry")],
    "look": [
        (
            "shiny|tiny|big|new|pretty|little|bright|strange|lovely|dusty|fancy|simple|special|sparkly|funny|"
            "wonderful|beautiful|cute|striped|spotted|smooth|crooked|huge|colorful|perfect|plain|round|soft|"
            "rare|splendid|magnificent|curious|precious"
        )
    ],
    "mud": ["muddy|deep|big|cold|warm|dirty|huge|wide|cool|murky"],
    "mood": [
        (
            "hungry|lonely|tiny|sleepy|shy|friendly|gentle|grumpy|curious|cheeky|small|cold|thin|weary|scruffy|timid|"
            "sweet|wet|proud|busy|young|gloomy|puzzled|tired|patient|chubby|handsome|dizzy|fluffy|polite|silly|"
            "nervous|clumsy|restless|jolly"
        )
    ],
    "kin": [
        (
            "kind|gentle|sweet|patient|wise|funny|jolly|cheerful|busy|sleepy|tired|proud|caring|clever|merry|dear|"
            "smiling|worried|calm|surprised"
        )
    ],
    "pal": [
        (
            "best|good|new|dear|kind|shy|clever|funny|quiet|silly|grumpy|little|loyal|sleepy|cheeky|brave|nervous|"
            "true|noisy|polite|cheerful|hungry"
        )
    ],
    "seed": ["tiny|little|small|round|brown|strange|magic|special|shiny|dry"],
    "bloom": ["tall|tiny|lovely|big|bright|sweet|beautiful|pretty|fresh|strange|perfect|little|huge|round|fine|fat"],
    "taste": ["sweet|warm|yummy|fresh|tasty|lovely|hot|sticky|delicious|fine"],
    "snow": ["big|tall|funny|round|chubby|friendly|proud|handsome|silly|huge|jolly|smiling|crooked|happy|fat"],
    "sad": ["sad|hungry|lonely|bored|cold|tired|poor|unhappy|homesick|scared|gloomy|lost|worried|sleepy"],
    "glad": ["happy|glad|pleased|excited|thankful|cheerful|joyful|delighted|proud|calm|merry|grateful"],
}

ENDINGS = {
    "happy": [
        "That <weather> [day|night|evening], {name} was <glad>.",
        "<Who> <gladly> [skipped|danced|walked|ran|hopped|strolled|marched] [home|to bed|to {his} {family}].",
        "<Who> <gladly> told {his} <kin> {family} [everything|the story|all about it|the news].",
        "<Who> [fell asleep|went home|sat down|woke up] with a [big|happy|warm|wide|sleepy|bright|gentle|proud] smile.",
        "It was the [best|happiest|funniest|nicest] <weather> day [ever|of {his} life|of the year].",
        "<Who> [never forgot|always remembered] that <weather> [day|night|evening].",
    ],
    "share": [
        "<Who> <truly> learned that [sharing|giving] is [fun|good|better than having].",
        "They all <gladly> [smiled|cheered|hugged|laughed|danced].",
        '"[We all win|Friends share|Sharing is fun]," {name} <cheers>.',
        "They were [very|so] <glad>.",
    ],
    "brave": [
        "<Who> felt [very|so] [brave|bold|strong] that <weather> [day|night|evening].",
        '"[I did it|I am brave|That was easy|Hooray]!" <who> <gladly> <cheers>.',
        "<Who> <truly> felt [brave|bold|strong|safe].",
        "<happy>",
    ],
    "patient": [
        '"[I did it|It worked|Hooray]!" <who> <gladly> <cheers>.',
        "<Who> <truly> learned to [never give up|be patient|keep trying|wait].",
        "{name}'s <kin> {family} was [proud of|amazed by|happy for] {him}.",
        "<happy>",
    ],
    "honest": [
        "<Who> felt [light|better|good|<glad>].",
        "<Who> <truly> learned that [the truth is best|honesty is good|lies hurt].",
        "{name}'s <kin> {family} <warmly> [hugged|praised|thanked|kissed] {him}.",
    ],
    "careful": [
        "<Who> <softly> [nodded|agreed|listened|obeyed|smiled].",
        "<Who> <softly> promised {his} {family} to [listen|be careful|think first].",
        '"[I will be careful|Good idea|You are right]," <who> <softly> <says>.',
    ],
    "kind": [
        "<Who> <truly> learned that [kindness|helping] [comes back|is never wasted|feels good].",
        "<Who> felt [warm inside|very kind|like a hero|<glad>].",
        "<happy>",
    ],
    "friend": [
        "They <gladly> [played|laughed|sang|danced|talked] [until dark|together|all day|for hours].",
        "They were [best|good|great|<glad>] friends [forever|from then on|after that].",
        '"You are my [best|dearest|favorite] friend," {name} <warmly> <says>.',
        "<happy>",
    ],
}

RULES = {"story": ["<opening><plot>"], "opening": OPENINGS, "plot": PLOTS, **WORDS, **ENDINGS}
