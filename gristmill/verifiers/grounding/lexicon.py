"""The closed classes of English words by which claims are compared with passages, as stems.

Own lists, since WordNet and its kin are large, need data of their own, and list opposites by sense: a verdict
must not depend on which sense was guessed.
"""

from __future__ import annotations

from itertools import chain

from gristmill.verifiers.grounding.claims import NEGATIONS, stems


def _set(words: str) -> frozenset[str]:
    return frozenset(chain.from_iterable(stems(word) for word in words.split()))


PREPOSITIONS = _set(
    "of in on at by to from with for near behind beside beneath under above below over into onto through"
    " during since until till against among between across along around without within towards toward"
    " about after before than like per via despite inside outside next opposite as"
)
AUXILIARIES = _set(
    "is are was were be been being am has have had do does did will would can could may might must shall"
    " should not never also only then soon later still already once first finally often usually always"
    " sometimes just ever now both all each again"
)
FORMS_OF_BE = _set("is are was were be been being am got gets get")
MODALS = _set("will would can could may might must shall should did does do not never")
RELATIVE = _set("who whom which that whose where when")
PRONOUNS = _set("he she it they him her them his hers its their this these those")
PARTICLES = _set("up out off down away back")
SMALL_NUMBERS = frozenset(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve"))
COLOURS = _set("red blue green yellow black white brown orange purple pink grey gray golden violet")

SYMMETRIC = _set(
    "meet marry equal match resemble border adjoin differ join collide tie draw play face fight clash"
    " share cooperate agree near link connect combine mix merge compare correlate coincide mean include"
    " involve follow"
)
"""A relation that holds in both directions: "A met B" is "B met A"."""

NEGATIVE_IDIOMS = (
    "not only|not just|not merely|not simply|no later than|no more than|no less than|no fewer than|no earlier"
    " than|no doubt|nothing but|none other than|not to mention|no matter"
)
DENYING = _set(
    "fail lack refuse deny prevent stop avoid cease forget absent rather instead except unless unable"
    " without reject forbid forbidden prohibit ban hardly barely rarely seldom few little exclude cancel"
    " abandon unlike miss free until too closed empty unchanged under over below above beyond exceed more"
    " less fewer"
)
"""Words that deny without a "not"; beside them a count of negations decides nothing."""

HEDGES = _set(
    "might perhaps possible possibly maybe probable probably likely alleged allegedly reported reportedly"
    " suspect rumour rumor suppose supposedly apparently presumably potential potentially conceivably"
    " believe claim think doubt hope plan propose intend expect want try attempt threaten promise predict"
    " forecast project speculate seek aim wish consider deny unclear unconfirmed uncertain"
)
"""Words that make a statement less than an assertion."""
DOUBTS = (
    HEDGES
    | NEGATIONS
    | _set(
        "if unless whether may could would should claim false untrue myth suggest say said argue according"
        " almost nearly some few most sometimes"
    )
)
"""Words beside a repeated clause that may make it another claim: negation, condition, doubt, hearsay."""
LEADING = _set("and but or so while then also later soon finally now") | {"1th"}
CONDITIONS = _set("if unless whether provided")
PERMITS = _set(
    "can may could able allow permit permission let possible option optional up limit maximum entitled"
    " eligible"
)
OBLIGES = _set("must require mandatory obliged obligatory compulsory need necessary essential")
ADVISES = _set("may can could should recommend optional encourage advise voluntary might allow permit")

SUPERLATIVES = _set(
    "largest biggest smallest highest tallest lowest longest shortest oldest youngest newest earliest latest"
    " deepest widest fastest slowest heaviest lightest nearest farthest richest poorest busiest greatest"
    " strongest hottest coldest wettest driest best worst"
)
TIMES = _set("in since until till by from to before after during of on between around and")
"""The prepositions before a year; which one it is says little."""
_UNITS = (
    "second minute hour day week month year decade century|am pm|metre meter kilometre kilometer centimetre"
    " centimeter millimetre millimeter mile foot inch yard km cm mm|gram kilogram kg pound tonne ton ounce"
    "|dollar euro cent|litre liter millilitre gallon|watt kilowatt megawatt|degree percent"
)
UNITS = {
    unit: dimension
    for dimension, units in enumerate(_UNITS.split("|"))
    for word in units.split()
    for unit in (*stems(word), *stems(f"2 {word}s")[1:])
}
"""The dimension of a unit, in an arbitrary number."""
AT_LEAST = ("at least", "more than", "over", "minimum of", "above")
AT_MOST = ("at most", "up to", "less than", "under", "maximum of", "below", "fewer than")

AMOUNTS = {
    stem: amount
    for amount, words in (
        (5, "all every each everyone everybody everything always entire entirely complete completely whole"),
        (4, "most majority usual usually mostly mainly generally"),
        (3, "many much often frequent frequently several half"),
        (2, "some sometimes part partly partial partially occasional occasionally certain"),
        (1, "few rare rarely seldom little"),
    )
    for stem in _set(words)
}
"""How much of a whole a quantifier speaks of."""

_OPPOSITES = (
    "increase:decrease reduce fall decline drop|rise:fall drop decline decrease|grow:shrink decline|"
    "gain:lose loss|profit:loss|open:close|win:lose|accept:reject|approve:reject|allow:forbid prohibit|"
    "permit:forbid prohibit|include:exclude|above:below|more:less few fewer|higher:lower|high:low|"
    "larger:smaller|large:small|big:small|bigger:smaller|longer:shorter|long:short|older:younger newer|"
    "old:young new|faster:slower|fast:slow|warmer:colder cooler|warm:cold|hot:cold|hotter:colder|"
    "heavier:lighter|heavy:light|cheaper:dearer|cheap:expensive|largest:smallest|biggest:smallest|"
    "highest:lowest|longest:shortest|oldest:youngest newest|fastest:slowest|best:worst|better:worse|"
    "north:south|east:west|northern:southern|eastern:western|upper:lower|early:late|earlier:later|"
    "earliest:latest|maximum:minimum|most:least|success:failure|succeed:fail|pass:fail|support:oppose|"
    "agree:disagree|appear:disappear|import:export|arrive:depart|start:end|begin:end|strong:weak|"
    "stronger:weaker|rich:poor|wet:dry|male:female|man:woman|boy:girl|husband:wife|mother:father|"
    "brother:sister|son:daughter|alive:dead|guilty:innocent|victory:defeat|legal:illegal|public:private|"
    "permanent:temporary|inner:outer|indoor:outdoor|vertical:horizontal|morning:evening|summer:winter|"
    "spring:autumn|positive:negative|raw:cooked|full:empty|front:back|enter:leave|strengthen:weaken|"
    "improve:worsen|widen:narrow|deep:shallow|deeper:shallower|major:minor|majority:minority|"
    "safe:dangerous"
)


def _both_ways() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for entry in _OPPOSITES.split("|"):
        one, others = entry.split(":")
        for a in _set(one):
            for b in _set(others):
                found.setdefault(a, set()).add(b)
                found.setdefault(b, set()).add(a)
    return {word: frozenset(others) for word, others in found.items()}


OPPOSITES = _both_ways()
"""The opposites of a word, in both directions."""
