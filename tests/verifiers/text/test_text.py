"""What a text is made of."""

from __future__ import annotations

import time

import pytest

from gristmill.verifiers.text import words as t


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", 3),
        ("Dr. Smith met J. S. Bach. They spoke.", 2),
        ("The U.S. Navy is big. It is.", 2),
        ("It costs 3.5 dollars... or more. Yes.", 2),
        ('He said "Stop." Then he left.', 2),
        ("e.g. this is one", 1),
        ("これは文です。二つ目です。", 2),
        ("no end", 1),
        ("", 0),
        ("...", 1),
        ("Wait... What?!", 2),
        ("In Jan. 2020 it rained.", 1),
    ],
)
def test_sentences(text: str, sentences: int) -> None:
    assert len(t.sentences(text)) == sentences


def test_words_paragraphs_lines_bullets_headings() -> None:
    assert t.words("don't well-known 3 漢字 x_y") == ["don't", "well-known", "3", "漢", "字", "x", "y"]
    assert t.paragraphs("a\nb\n\n \n\nc\n") == ["a\nb", "c"]
    assert t.lines(" a\n\n b ") == ["a", "b"]
    assert t.bullets("- a\n  * b\n1. c\n2) d\n-e\n**f**\n--- \n10 g") == ["- a", "* b", "1. c", "2) d"]
    assert t.headings("# A\n## B ##\n**C:**\n**D** x\nE: y\n#F") == ["A", "B", "C"]
    assert t.sections("# A\n**C:** x\nE: y\nF: g: h\n  no colon") == ["A", "C", "E", "F"]


def test_repetition() -> None:
    assert t.repetition(list("abab"), 2) == pytest.approx(1 / 3)
    assert t.repetition(list("aaaa")) == 0.75
    assert t.repetition(["a"]) == t.repetition([], 4) == 0.0


TEXTS = {
    "en": "I would like to know what the weather will be like when we arrive in the city tomorrow.",
    "de": "Ich möchte wissen, wie das Wetter morgen wird, wenn wir mit dem Zug in der Stadt ankommen.",
    "fr": "Je voudrais savoir quel temps il fera demain quand nous arriverons dans la ville avec le train.",
    "es": "Quiero saber qué tiempo hará mañana cuando lleguemos a la ciudad en el tren de la tarde.",
    "it": "Vorrei sapere che tempo farà domani quando arriveremo in città con il treno della sera.",
    "pt": "Eu gostaria de saber como vai estar o tempo amanhã, quando chegarmos à cidade no trem da noite.",
    "nl": "Ik wil graag weten hoe het weer morgen is als wij met de trein in de stad aankomen.",
    "ru": "Я хотел бы знать, какая погода будет завтра, когда мы приедем в город.",
    "uk": "Я хотів би знати, яка погода буде завтра, коли ми приїдемо до міста.",
    "el": "Θα ήθελα να ξέρω τι καιρό θα κάνει αύριο.",
    "he": "אני רוצה לדעת איך יהיה מזג האוויר מחר.",
    "ar": "أريد أن أعرف كيف سيكون الطقس غدا عندما نصل إلى المدينة.",
    "hi": "मैं जानना चाहता हूँ कि कल मौसम कैसा रहेगा।",
    "th": "ฉันอยากรู้ว่าพรุ่งนี้อากาศจะเป็นอย่างไร",
    "ja": "明日、町に着くときの天気を知りたいです。",
    "zh": "我想知道明天我们到达城市时天气怎么样。",
    "ko": "내일 도시에 도착할 때 날씨가 어떨지 알고 싶습니다.",
}


@pytest.mark.parametrize("code", t.LANGUAGES)
def test_language(code: str) -> None:
    assert t.language(TEXTS[code]) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12 + 3 = 15",
        "Ok, fine.",
        "Paris, London, Berlin, Madrid, Rome",
        "Chciałbym wiedzieć, jaka będzie jutro pogoda, kiedy przyjedziemy do miasta.",
        "Haluaisin tietää, millainen sää on huomenna, kun saavumme kaupunkiin.",
        "می‌خواهم بدانم فردا هوا چگونه خواهد بود.",
    ],
)
def test_a_language_that_cannot_be_told(text: str) -> None:
    assert t.language(text) is None


@pytest.mark.parametrize("unit", [".", ". ", "a.", " \n", "\n", ".)", "a-", "'", "**a", "- ", "x:", "! a"])
def test_linear_time(unit: str) -> None:
    text = unit * (500_000 // len(unit))
    start = time.process_time()
    for read in (t.words, t.sentences, t.paragraphs, t.lines, t.bullets, t.headings, t.sections, t.language):
        read(text)
    assert time.process_time() - start < 15
