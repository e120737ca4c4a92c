"""The storybook's rules around its plots: openings, shared words and endings (see grammar.py for the signs)."""

from __future__ import annotations

from stages.storybook.plots import PLOTS

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
        "4*One <weather> [day|morning|afternoon|evening]",
        "4*[On Sunday|Last summer|After lunch|That week|At noon|On Monday|In spring|Last week|On Friday|In May]",
    ],
    "likes": ["[loved|liked] <hobby>"],
    "weather": [
        (
            "sunny|rainy|fine|warm|cold|bright|cool|chilly|dark|gray|hot|cloudy|lovely|quiet|snowy|golden|fresh|"
            "pleasant|dry|mild|peaceful|wet"
        )
    ],
    "hobby": [
        (
            "singing|laughing|drawing|exploring|dreaming|running|building|jokes|stars|berries|jumping|games|eating|"
            "helping|climbing|hiking|digging|baking|leaves|flowers|clouds|travel|hats|questions|puzzles|music|"
            "stories|gardening|fishing|rain|ducks"
        )
    ],
    # what is said, and how
    "says": ["said|whispered|smiled|laughed|called|sighed|chuckled|replied|nodded|grinned"],
    "cheers": ["said|cried|called|shouted|laughed|sang|cheered|giggled|yelled|whispered"],
    "warns": ["cried|called|shouted|yelled|said|begged|squeaked"],
    "thanks": ['"[Thank you|Thanks|How kind|How lucky]!" <cheers> {name}.|<happy>'],
    # adverbs, each for its kind of verb
    "fast": [
        ("quickly|instantly|suddenly|swiftly|boldly|eagerly|happily|kindly|gladly|calmly|safely|politely|carefully|neatly")
    ],
    "softly": [
        (
            "slowly|quietly|carefully|gently|softly|patiently|calmly|kindly|nervously|silently|finally|gladly|boldly|"
            "lightly|politely"
        )
    ],
    "warmly": [("kindly|gently|softly|happily|calmly|nicely|patiently|quietly|proudly|wisely|gladly|slowly|quickly|politely")],
    "gladly": ["happily|gladly|proudly|politely|patiently|calmly|eagerly|promptly|quickly|kindly|finally|boldly"],
    "bravely": ["boldly|slowly|gently|carefully|quietly|calmly|nervously|proudly|silently|quickly|finally|politely"],
    "clumsily": ["accidentally|suddenly|hastily|quickly|blindly|secretly|awkwardly|eagerly|wildly|abruptly"],
    "slyly": ["secretly|quickly|quietly|suddenly|silently|slowly|openly|eagerly|happily|boldly"],
    "wildly": ["wildly|happily|quickly|boldly|suddenly|proudly|freely|loudly|hastily|eagerly|blindly"],
    "truly": ["finally|soon|slowly|quickly|truly|really|happily|gladly|now|quietly"],
    # adjectives; all begin with a consonant's sound, so that "a" fits
    "small": ["4*|5* little|4* young|3* tiny|2* small|1* big"],
    "size": [
        (
            "small|quiet|distant|pretty|cozy|sunny|busy|snowy|lonely|hidden|green|peaceful|tiny|lovely|warm|magical|"
            "dusty|grand|charming|dark|big|silent|crooked|beautiful|clean|sleepy|cheerful|strange|bright"
        )
    ],
    "land": [
        (
            "quiet|distant|green|sunny|big|snowy|lonely|peaceful|hidden|warm|magical|dark|busy|silent|wide|beautiful|"
            "muddy|cold|nearby|lovely"
        )
    ],
    "room": [("garden|kitchen|attic|bathroom|basement|hall|barn|shed|cellar|cupboard|closet|bedroom|garage|laundry|pantry")],
    "look": [
        (
            "shiny|tiny|big|new|pretty|little|bright|strange|lovely|dusty|fancy|simple|special|clean|funny|"
            "wonderful|beautiful|cute|striped|spotted|smooth|crooked|huge|colorful|perfect|plain|round|soft|"
            "rare|splendid|magnificent|curious|precious"
        )
    ],
    "mud": ["muddy|deep|big|cold|warm|dirty|huge|wide|cool|murky"],
    "mood": [
        (
            "hungry|lonely|tiny|sleepy|shy|friendly|gentle|lazy|curious|bold|small|cold|thin|weary|skinny|timid|"
            "sweet|wet|proud|busy|young|gloomy|puzzled|tired|patient|fat|handsome|quiet|fluffy|polite|silly|"
            "nervous|clumsy|restless|merry"
        )
    ],
    "kin": [
        (
            "kind|gentle|sweet|patient|wise|funny|brave|cheerful|busy|sleepy|tired|proud|caring|clever|merry|dear|"
            "smiling|worried|calm|surprised"
        )
    ],
    "pal": [
        (
            "best|good|new|dear|kind|shy|clever|funny|quiet|silly|lazy|little|loyal|sleepy|smart|brave|nervous|"
            "true|noisy|polite|cheerful|hungry"
        )
    ],
    "seed": ["tiny|little|small|round|brown|strange|magic|special|shiny|dry"],
    "bloom": ["tall|tiny|lovely|big|bright|sweet|beautiful|pretty|fresh|strange|perfect|little|huge|round|fine|fat"],
    "taste": ["sweet|warm|good|fresh|tasty|lovely|hot|sticky|delicious|fine"],
    "snow": ["big|tall|funny|round|cute|friendly|proud|handsome|silly|huge|merry|smiling|crooked|happy|fat"],
    "sad": ["sad|hungry|lonely|bored|cold|tired|poor|unhappy|homesick|scared|gloomy|lost|worried|sleepy"],
    "glad": ["happy|glad|pleased|excited|thankful|cheerful|joyful|delighted|proud|calm|merry|grateful"],
}

ENDINGS = {
    "happy": [
        "{name} was [very|so] <glad> that [day|night|evening].",
        "<Who> [skipped|danced|walked|ran|hopped|strolled|marched] [home|to bed|to {his} {family}].",
        "<Who> <gladly> told {his} {family} [everything|the story|all about it|the news].",
        "<Who> [fell asleep|went home|sat down|woke up] with a [big|happy|warm|wide|sleepy|bright|gentle|proud] smile.",
        "It was the [best|happiest|greatest|finest] day [ever|of {his} life|of the year].",
        "<Who> [never forgot|always remembered] that [day|night|evening].",
    ],
    "share": [
        "<Who> <truly> learned that [sharing|giving] is [fun|good|better than having].",
        "They all <gladly> [smiled|cheered|hugged|laughed|danced].",
        '"[We all win|Friends share|Sharing is fun]," {name} <cheers>.',
        "They were [very|so] <glad>.",
    ],
    "brave": [
        "<Who> felt [very|so] [brave|bold|strong] that [day|night|evening].",
        '"[I did it|I am brave|That was easy|At last]!" <who> <cheers>.',
        "<Who> <truly> felt [brave|bold|strong|safe].",
        "<happy>",
    ],
    "patient": [
        '"[I did it|It worked|At last]!" <who> <cheers>.',
        "<Who> <truly> learned to [never give up|be patient|keep trying|wait].",
        "{name}'s {family} was [proud of|amazed by|happy for] {him}.",
        "<happy>",
    ],
    "honest": [
        "<Who> felt [light|better|good|<glad>].",
        "<Who> <truly> learned that [the truth is best|honesty is good|lies hurt].",
        "{name}'s {family} <warmly> [hugged|praised|thanked|kissed] {him}.",
    ],
    "careful": [
        "<Who> <softly> [nodded|agreed|listened|obeyed|smiled].",
        "<Who> promised {his} {family} to [listen|be careful|think first].",
        '"[I will be careful|Good idea|You are right]," <who> <says>.',
    ],
    "kind": [
        "<Who> <truly> learned that [kindness|helping] [comes back|is never wasted|feels good].",
        "<Who> felt [warm inside|very kind|like a hero|<glad>].",
        "<happy>",
    ],
    "friend": [
        "They <gladly> [played|laughed|sang|danced|talked] [until dark|together|all day|for hours].",
        "They were [best|good|great|<glad>] friends [forever|from then on|after that].",
        '"You are my [best|dearest|favorite] friend," {name} <says>.',
        "<happy>",
    ],
}

RULES = {"story": ["<opening><plot>"], "opening": OPENINGS, "plot": PLOTS, **WORDS, **ENDINGS}
