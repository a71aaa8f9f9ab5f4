"""Malformed IIIF requests: 4xx with a sentence, whatever the address is."""

import random
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.slow

PARTS = [
    ["tissue-a", "tissue-a-sr", "tissue-a-bicubic"],
    ["full", "square", "0,0,30,30", "pct:0,0,50,50", "10,10,900,900"],
    ["max", "^max", "30,", ",20", "pct:50", "^pct:250", "!40,40", "20,20"],
    ["0", "90", "180", "270"],
    ["default.png", "gray.jpg", "color.webp"],
]
JUNK = "0123456789,.:^!-+%/\\?#&= \x00\n\x1b٣é\u202e\U0001f52camaxpctfulnjgd"
WRONG = [
    ["nothing", "..", "../a", "%2e%2e", "tissue-a.png", "a" * 2000, "\x00", "tissue-a-sr-sr", "Tissue A.png"],
    ["full,", "0,0,0,0", "-1,0,5,5", "80,0,5,5", "pct:101,0,1,1", "pct:nan,0,1,1", "1e3,0,1,1", "9" * 300 + ",0,1,1"],
    ["0,", "0,0", "^0,", "99999,", "^99999,", "pct:0", "^^max", "!0,0", "^pct:1e9", "1,2,3", "-5,", "inf,", "full"],
    ["45", "360", "-90", "!0", "nan", "9" * 400, "1/2", "90deg"],
    ["default", "default.exe", "bitonal.png", ".png", "default.png.png", "default.PNG", "a" * 3000],
]


def malformed_addresses(seed=0, count=400):
    """Yield addresses of which one part is wrong, and any other may be; some are cut, doubled or mutated."""
    draw = random.Random(seed)
    for number in range(count):
        parts = [draw.choice(good) for good in PARTS]
        broken = number % len(parts)
        parts[broken] = draw.choice(WRONG[broken])
        if draw.random() < 0.3:
            other = draw.randrange(len(parts))
            parts[other] = "|" + "".join(draw.choice(JUNK) for _ in range(draw.randrange(12)))
        if draw.random() < 0.1:
            parts = parts[: draw.randrange(3, 5)] if draw.random() < 0.5 else [*parts, "more"]
        yield "/iiif/" + "/".join(quote(part, safe="%,:^!") for part in parts)


def test_malformed_addresses_are_refused_in_a_sentence(client):
    wrong = []
    for address in malformed_addresses():
        response = client.get(address)
        is_json = response.headers["content-type"].startswith("application/json")
        sentence = response.json().get("error", "") if is_json else response.text
        is_sentence = sentence.startswith("Expected ") and "\n" not in sentence and len(sentence) < 500
        if not 400 <= response.status_code < 500 or not is_sentence:
            wrong.append((address[:120], response.status_code, response.text[:200]))
    assert not wrong, "\n".join(map(str, wrong))
    assert client.get("/iiif/tissue-a/full/max/0/default.png").status_code == 200
