"""Model card of released weights, as a package of them needs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import monai_iste
from monai_iste.errors import DataError
from monai_iste.io.files import checksum
from monai_iste.networks import PRESETS
from monai_iste.networks.presets import require_weights

_MODELS = Path(monai_iste.__file__).parent.parent / "bundles" / "iste" / "models"


class Card(NamedTuple):
    """Model card of released weights, and what a package takes from it.

    Attributes:
        text: the card without links, which would lead nowhere in a package.
        terms: its paragraph of terms.
        license: SPDX identifier.
        cited: (text, DOI) of each work that the terms ask to cite.
    """

    text: str
    terms: str
    license: str
    cited: list[tuple[str, str]]

    @classmethod
    def read(cls, preset: str, models: Path = _MODELS) -> Card:
        """Read the card of a preset's released weights.

        Raises:
            DataError: there is none, it is of other weights, or license or DOIs are missing.
        """
        path, digest = models / f"{preset}.md", checksum(require_weights(preset))
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if digest not in text:
            raise DataError(f"a model card {path.name} that names the SHA-256 of the weights", digest, "Write it.")
        terms = re.search(r"\*\*Terms\.\*\*.*?(?=\n\n)", text, re.S)
        found = " ".join(terms[0].split()) if terms else ""
        stated = re.search(r"Apache-2\.0|CC BY(?:-[A-Z]{2})* \d\.\d", found)
        works = r"((?:(?!Cite )[A-Z][\w-]* )+(?:et al\. )?\d{4}) \((?:([^()]*?), )?doi (10\.[^\s()]+?)\)"
        cited = re.findall(works, found)
        if stated is None or stated[0] not in PRESETS[preset].terms or not cited:
            raise DataError(
                f"a paragraph **Terms.** in {path.name} with the preset's license and what to cite, with each doi",
                found[:200] or "none",
                "Complete it.",
            )
        return cls(
            _without_links(text),
            found,
            stated[0].replace(" ", "-"),
            [(f"{work} ({part})" if part else work, doi) for work, part, doi in cited],
        )


def _without_links(text: str) -> str:
    """Return Markdown without pictures, and with links replaced by their words."""
    return re.sub(r"\[([^\[\]]*)\]\([^()]*\)", r"\1", re.sub(r"!\[[^\[\]]*\]\([^()]*\)\n?", "", text))
