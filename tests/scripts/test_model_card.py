"""Terms, license and works to cite, read from a model card."""

import pytest
from reference import assert_teaches

from monai_iste.errors import DataError
from monai_iste.io.files import checksum
from monai_iste.networks import released_weights
from monai_iste.networks.presets import DEFAULT_PRESET, PRESETS
from scripts.model_card import Card


def test_license_and_citations_come_from_the_card():
    card = Card.read(DEFAULT_PRESET)
    assert card.license == "Apache-2.0"
    assert card.license in PRESETS[DEFAULT_PRESET].terms
    assert len(card.cited) >= 2
    assert all(doi.startswith("10.") for _, doi in card.cited)
    assert "](" not in card.text


GOOD = """# Model card

**Terms.** Released under CC BY-NC-SA 4.0.
Cite Someone et al. 2001 (DATA, doi 10.1/a) and Another et al. 2002 (doi 10.2/b-c).

SHA-256 {digest}, [a link](x.md)
![picture](y.png)
"""


def test_cards_that_lack_something_are_refused(tmp_path):
    digest, path = checksum(released_weights("iste_light")), tmp_path / "iste_light.md"
    with pytest.raises(DataError) as caught:
        Card.read("iste_light", tmp_path)
    assert_teaches(caught.value, "iste_light.md")
    path.write_text(GOOD.format(digest=digest))
    card = Card.read("iste_light", tmp_path)
    assert card.license == "CC-BY-NC-SA-4.0"
    assert card.cited == [("Someone et al. 2001 (DATA)", "10.1/a"), ("Another et al. 2002", "10.2/b-c")]
    assert card.text.endswith(f"SHA-256 {digest}, a link\n")
    for bad in (
        GOOD.format(digest="0" * 64),
        GOOD.format(digest=digest).replace("**Terms.**", "Terms."),
        GOOD.format(digest=digest).replace("CC BY-NC-SA 4.0", "CC BY 4.0"),  # not what the preset states
        GOOD.format(digest=digest).replace("doi ", ""),
    ):
        path.write_text(bad)
        with pytest.raises(DataError):
            Card.read("iste_light", tmp_path)
