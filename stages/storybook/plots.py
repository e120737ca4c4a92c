"""The storybook's plots: what happens between the opening and the ending (see grammar.py for the signs)."""

from __future__ import annotations

LOST_AND_FOUND = [
    (
        "{name}'s <look> {color} {toy} was [gone|lost|missing]. {name}'s {family} looked [under the bed|behind the door|"
        "in every drawer|in a basket|on the stairs|in the <room>] and found the {color} {toy}! <happy>"
    ),
    (
        "<when>, the wind [blew|pulled|swept|snatched|tossed] {his} {color} {wear} [over a wall|into a river|up a tree|"
        "across the road|onto a roof]. {A helper} [caught|grabbed|rescued|fetched] the {wear}. <thanks>"
    ),
    (
        '<when>, <who> got lost in the <land> {wild}. {A helper} <says>, "Follow [me|this path|the river|the stars|my '
        'lantern]!" <thanks>'
    ),
    (
        '<when>, {his} {color} balloon [flew|floated|drifted] away. "It will visit [the moon|the clouds|Grandma|a '
        '<mood> {creature}]," {his} {family} <warmly> <says>. <happy>'
    ),
    (
        "<when>, {his} {color} kite got [stuck|caught|tangled] in a [tall|thorny|crooked|leafy|mossy] [tree|bush|fence|"
        "tower|gate]. {A helper} [freed|fetched|saved|untied] the {color} kite. <thanks>"
    ),
    (
        "{name}'s <pal> friend {friend} lost a <mood> {color} {creature}. <Who> searched the <land> {wild}. The "
        "{creature} was [asleep|hiding|playing|sitting] under a [leaf|mushroom|log|bench|tent|blanket]. <friend>"
    ),
]

SHARING = [
    (
        "<when>, {his} <pal> friend {friend} was <sad>. <Who> [cut|broke|split] {a taste} {treat} and gave {friend} "
        "[half|the {taste} part|the bigger piece|most of it]. <share>"
    ),
    (
        "{name} and {his} <pal> friend {friend} found {a color} [chest|pot|sack|barrel|trunk] of [gold|jewels|shells|"
        "candy|pearls|chocolate|spices] [under a rock|behind a waterfall|near a palm tree|in a log|below a bridge]. "
        "<share>"
    ),
    (
        '<when>, a <mood> {color} {creature} ate {his} [lettuce|cabbage|radishes|peas|strawberries|spinach]. "[Eat with '
        'me|You may stay|Take what you need|Have some more]," <who> <says>. <share>'
    ),
    (
        '{name} and {his} <pal> friend {friend} both wanted the {color} {toy}. "[Take turns|Play together|One at a time|'
        'Be kind]!" {his} {family} <says>. <share>'
    ),
]

COURAGE = [
    (
        "{name} was [afraid of|scared of] {fear}. <when>, {his} {family} <warmly> [held {his} hand|lit a candle|sat "
        "beside {him}|gave {him} {a color} {toy}|sang a song]. <brave>"
    ),
    (
        '<when>, <who> heard a [soft|loud|strange|sudden] [thump|scratch|squeak|growl|rattle|creak] in the <room>. "A '
        '[monster|ghost|witch|goblin|troll]!" But it was a <mood> {color} {creature}. <brave>'
    ),
    (
        "{name} had to [sing|dance|read|act|speak] at the <land> {place}. {His} [knees|hands|legs|ears] [shook|trembled|"
        "wobbled]. {name}'s <pal> friend {friend} [smiled|nodded|waved|clapped]. <brave>"
    ),
    (
        "A <mood> {color} dragon lived [above|near|behind|under] the {home}. <when>, <who> brought it {a taste} "
        "{treat}. It [purred|smiled|burped|sneezed|wagged its tail]! <brave>"
    ),
    (
        "<when>, the bridge to the {place} was [broken|shaky|gone|icy|wet]. {A helper} [threw a rope|pushed a log|"
        "brought a raft|laid a plank], and <who> <bravely> [crossed|crawled|jumped|climbed] over. <brave>"
    ),
]

PATIENCE = [
    (
        '{name} wanted to {skill}, but always [failed|fell asleep|gave up|made mistakes]. "[Try again|Keep going|'
        'Practice more]!" <says> {a helper}. <Who> practiced [every day|for a week|all summer|each morning]. <patient>'
    ),
    (
        "<when>, <who> planted a <seed> {plant} seed [by the gate|behind the {home}|in {a color} pot|near a well]. {He} "
        "[watered|sang to|watched] it. Soon a <bloom> {plant} [grew|popped up|sprouted|appeared]! <patient>"
    ),
    (
        "<when>, <who> found {a color} {tune} in the <room>. It sounded [awful|rusty|strange|squeaky|sad]. <Who> "
        "[cleaned|polished|fixed|tuned] the {color} {tune}. <patient>"
    ),
    (
        "{name} and {his} {family} [made|baked|prepared] {a taste} {treat}. It tasted of [salt|pepper|mustard|soap|sand|"
        "glue|garlic]. They made a new {treat}. <patient>"
    ),
    (
        "{name} built a <look> tower of {color} [blocks|cups|pillows|cards|cans|bricks]. It fell [once|twice|three "
        "times|all day]. {name}'s <pal> friend {friend} helped. <patient>"
    ),
]

HONESTY = [
    (
        "<when>, <who> <clumsily> [broke|dropped|cracked|chipped] {a color} [vase|cup|plate|bowl|teapot|mirror]. {name} "
        'told {his} {family}. "[I am not angry|We can fix it|Accidents happen]," {he} heard. <honest>'
    ),
    (
        "{name} <slyly> took {a color} {thing} from {his} <pal> friend {friend}. But <who> could not [sleep|eat|rest|"
        "smile] and <softly> gave the {color} {thing} back. <honest>"
    ),
]

CARE = [
    (
        "<when>, <who> ate [five|six|seven|nine|ten] <taste> [cookies|pies|donuts|plums|lollipops|sausages]. {His} "
        "[tummy|belly|head|tooth] hurt. {name}'s {family} brought [tea|soup|{a color} pillow|{a color} blanket]. "
        "<careful>"
    ),
    (
        "{name}'s {taste} {treat} was on a shelf. <Who> <clumsily> climbed on {a color} [chair|box|bucket|stool|crate] "
        'and fell. "[Ask for help|Call me|Wait for me|Tell me]," {his} {family} <says>. <careful>'
    ),
    (
        '<when>, <who> <wildly> ran [near the pool|on the ice|down the stairs|across the street|with scissors]. "[Stop|'
        'Slow down|Look out|Be careful]!" <warns> {a helper}. <Who> thanked {the helper}. <careful>'
    ),
    (
        '<when>, <who> <clumsily> [touched|tasted|lifted|poked] a hot {treat}. "[Ouch|Ow|Oh no]!" {His} {family} <fast> '
        "brought [cold water|ice|a bandage|snow|cream]. <careful>"
    ),
]

KINDNESS = [
    (
        "<when>, <who> found a <mood> {color} {creature} with a [hurt|broken|sore] [leg|foot|tail|toe]. {He} [washed|"
        "wrapped|cleaned|rubbed] it with a [cloth|leaf|bandage|sponge]. Soon the {creature} was [well|healthy|strong]. "
        "<kind>"
    ),
    (
        '<when>, <who> caught a <mood> {color} {creature} in a [jar|net|cage|basket]. It looked <sad>. "[Go home|Be '
        'free|Goodbye]," <who> <says>. <kind>'
    ),
    (
        '<when>, <who> caught a <mood> fish at the <land> {place}. "[Let me go|Save me|Put me back]!" it <warns>. <Who> '
        "agreed. It gave {him} a <look> {color} {thing}. <kind>"
    ),
    (
        "{name}'s <kin> {family} was [sick|ill|in bed|very tired|<sad>]. <Who> [made|cooked|brought] <taste> [soup|toast|"
        "tea|noodles|porridge] and {a color} [flower|lily|daisy|orchid|card]. <kind>"
    ),
    (
        "{name} and {his} <pal> friend {friend} raced to the <land> {place}. {friend} [fell|tripped|slipped] [over a "
        "root|in the mud|on a rock|near the end]. {name} <fast> [stopped|turned back|helped]. <kind>"
    ),
]

FRIENDSHIP = [
    (
        "{name} felt [sad|lonely|bored|gloomy|homesick|unhappy]. <when>, {his} <pal> friend {friend} came [by|over|"
        'along] with {a color} {toy}. "Let us play!" {friend} <cheers>. <friend>'
    ),
    (
        "<when>, {his} <pal> friend {friend} <slyly> took {his} {color} {toy}. <Who> was [angry|mad|upset|sad]. "
        "{friend} <softly> gave the {toy} back. <friend>"
    ),
    ("It was {name}'s birthday! {name}'s <pal> friend {friend} brought a <look> {color} {toy} and {a taste} {treat}. <friend>"),
    (
        "<when>, {name} and {his} <pal> friend {friend} built a <snow> [snowman|snow {kind}|snow {creature}] with "
        "{a color} {wear}. Soon only the {wear} was left. <friend>"
    ),
    (
        "{name} wrote to {his} <pal> friend {friend} and drew a <mood> {color} {creature}. [Weeks|Days|Months] later, "
        "{friend} sent back a [photo|postcard|picture|parcel|{toy}]. <friend>"
    ),
]

WONDER = [
    (
        "<when>, <who> found a <look> {color} {thing} in the <land> {wild}. <Who> [rubbed|shook|held|touched] the "
        "{thing} and wished for [wings|a friend|rain|a rainbow|candy|a {toy}]. <happy>"
    ),
    (
        "{name} wanted to [touch|hold|catch|hug] the moon. {name}'s {family} filled a <look> {color} [bucket|bowl|tub|"
        "pan] with water. The moon [was|shone|danced] in it! <happy>"
    ),
    (
        "{name} made a <look> [rocket|spaceship|submarine|plane] from {color} [boxes|cardboard|cans|tires|paper] and "
        'flew to [Mars|the moon|a star]. "[Dinner|Bath time|Bedtime|Cleanup]!" {his} {family} <warns>. <happy>'
    ),
    (
        "{name}'s tooth [fell|came] out in {a taste} {treat}! That <weather> [morning|night|evening], {a color} {thing} "
        "was under {his} [pillow|blanket|bed]. {name}'s {family} [smiled|winked|clapped]. <happy>"
    ),
]

DAYS_OUT = [
    (
        "<when>, {name} and {his} {family} [roasted|toasted|ate] [corn|marshmallows|chestnuts|fish|beans] in {a color} "
        "tent. A <mood> {creature} [called|peeked in|sneezed|joined in]. <happy>"
    ),
    (
        "<when>, <who> took the {color} [train|bus|ferry|tram] to {his} <kin> {family} and [counted|waved at|drew] the "
        "[cows|sheep|windmills|tunnels|ships|barns]. They ate {a taste} {treat}. <happy>"
    ),
    (
        "<when>, <who> put on {his} {color} {wear} and <wildly> [jumped|splashed|stomped|danced] in a <mud> [puddle|"
        "stream|ditch|pond]. {name}'s {family} [frowned|gasped|stared|joined in]. <happy>"
    ),
    (
        "{name} painted a <mood> {color} {creature}. {name}'s <pal> friend {friend} [bumped|hit] the table. Now the "
        "{creature} had <look> [spots|stripes|wings|feet|whiskers]! <happy>"
    ),
    (
        "{name} could not sleep. {name} counted [sheep|stars|frogs|clouds] and hugged {his} {color} {toy}. {name}'s "
        "<kin> {family} [sang|hummed|played] a [song|lullaby|tune|melody]. <happy>"
    ),
    (
        "<when>, a <look> circus came to the {home}. A <mood> {color} {creature} [juggled|rode a bike|played the {tune}|"
        "ate {a taste} {treat}|jumped through hoops]. <happy>"
    ),
]

PLOTS = [
    *LOST_AND_FOUND,
    *SHARING,
    *COURAGE,
    *PATIENCE,
    *HONESTY,
    *CARE,
    *KINDNESS,
    *FRIENDSHIP,
    *WONDER,
    *DAYS_OUT,
]
