"""Sets of tiles with the case, organ and source of each, and gains with intervals over cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import Row
from experiments.statistics import paired_bootstrap
from experiments.tiles import label_tiles
from monai_iste.data import image_datalist
from monai_iste.errors import ConfigError
from monai_iste.metrics import get_protocol
from monai_iste.metrics.manifest import fingerprint

__all__ = ["LABELS", "Gain", "Group", "describe_sets", "gain_over_cases", "groups", "tile_sets"]

#: Keys that :func:`tile_sets` adds to the items of a data list.
LABELS = ("set", "source", "organ", "case")


def tile_sets(folders: Sequence[str | Path], images: int | None = None) -> list[Row]:
    """List the tiles of several folders, with their labels.

    The labels are those of :func:`~experiments.tiles.label_tiles`.

    Args:
        folders: folders of images, ``DIR`` or ``NAME=DIR``; the name of a set is by default that of its folder.
        images: number of tiles of each folder, the first ones; None for all.
    Returns:
        items of :func:`~monai_iste.data.image_datalist` with ``set``, ``source``, ``organ`` and ``case``; what is not
        known is empty.
    Raises:
        ConfigError: two folders have the same name.
        DataError: a folder has no images, or a tile is not in the table, or twice.
    """
    found: dict[str, list[Row]] = {}
    for text in folders:
        name, folder = _named(str(text))
        if name in found:
            raise ConfigError("sets of tiles with different names", f"{name!r} twice", "Name them: NAME=DIR.")
        items = image_datalist(folder)[:images]
        labels = label_tiles(items, folder, name)
        found[name] = [{**item, "set": name, **of_tile} for item, of_tile in zip(items, labels, strict=True)]
    return [item for items in found.values() for item in items]


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if equals and name and folder and not Path(text).exists():
        return name, Path(folder)
    return Path(text).resolve().name, Path(text)


def describe_sets(items: Sequence[Row], protocols: Sequence[str]) -> Row:
    """Describe tiles and protocols for the manifest of a measurement: names and hashes, never folders."""
    names = dict.fromkeys(item["set"] for item in items)
    return {
        "tiles": {name: fingerprint([item for item in items if item["set"] == name]) for name in names},
        "protocols": [dataclasses.asdict(get_protocol(name)) for name in protocols],
    }


# --- groups -----------------------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """Tiles that have a label in common.

    Args:
        by: ``all``, or one of :data:`LABELS`.
        name: their common label.
        members: their positions in the list.
    """

    by: str
    name: str
    members: list[int]


def groups(labels: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Group tiles: all of them, then by set, source, organ and case.

    A label is left out if it has one value only, groups as the one before it did under the same names, or is different
    for every tile. Tiles without a label are in no group of its kind.

    Example:
        >>> tiles = [{"set": "new", "source": "new", "organ": organ, "case": organ + "1"} for organ in ("a", "a", "b")]
        >>> [(group.by, group.name, group.members) for group in groups(tiles)]
        [('all', 'all', [0, 1, 2]), ('organ', 'a', [0, 1]), ('organ', 'b', [2]), ('case', 'a1', [0, 1]), \
('case', 'b1', [2])]
    """
    found = [Group("all", "all", list(range(len(labels))))]
    before: dict[str, list[int]] = {}
    for by in LABELS:
        parts: dict[str, list[int]] = {}
        for i, label in enumerate(labels):
            if label[by]:
                parts.setdefault(label[by], []).append(i)
        single = all(len(members) == 1 for members in parts.values())
        if len(parts) > 1 and parts != before and not single:
            found += [Group(by, name, members) for name, members in sorted(parts.items())]
        before = parts
    return found


class Gain(NamedTuple):
    """Mean difference over tiles with the limits of its 95 % interval over cases; None for a single case."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:+.2f} (one case)"
        return f"{self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def gain_over_cases(values: Sequence[float], cases: Sequence[str]) -> Gain:
    """Compute the mean over tiles, and its bootstrap interval from drawing cases with all their tiles.

    Tiles of one case resemble each other. An interval that draws tiles would be too narrow. See
    :func:`~experiments.statistics.paired_bootstrap`. With fewer than about ten cases it is rough.

    Example:
        >>> str(gain_over_cases([1.0, 1.0, 1.0], ["a", "a", "b"])), str(gain_over_cases([1.0, 2.0], ["a", "a"]))
        ('+1.00 (+1.00 to +1.00)', '+1.50 (one case)')
    """
    if len(set(cases)) == 1:
        return Gain(sum(values) / len(values), None, None)
    return Gain(*paired_bootstrap(values, [0.0] * len(values), cases=cases))
