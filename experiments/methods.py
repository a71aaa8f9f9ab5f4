"""Methods, ablations, open choices and ideas of Tables I and II, and the training budgets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from monai_iste.errors import ConfigError
from monai_iste.networks.presets import BASELINES, PRESETS


class Method(NamedTuple):
    """Method, a row of a table.

    Args:
        label: name in the table.
        family: name of its presets, ``<family>``, ``<family>_small`` and ``<family>_light``.
        overlays: names of overlays in ``experiments/configs`` that its training adds to ``train.json``.
        any_scale: True if one network covers all scales; otherwise there is one network per scale, up to x4.
        network_overlays: names of overlays that change the network, for training and evaluation.
        only_preset: its preset at every size, for a method that has one size; None for a method of several.
        options: settings of ``train.json`` that it has in place of the budget's.
    """

    label: str
    family: str
    overlays: tuple[str, ...] = ()
    any_scale: bool = True
    network_overlays: tuple[str, ...] = ()
    only_preset: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def trained(self) -> bool:
        """True unless the method is bicubic interpolation."""
        return self.family != "bicubic"

    def preset(self, size: str) -> str:
        """Return the preset of a size, or the small one if the family has no such size."""
        if self.only_preset is not None:
            return self.only_preset
        if size == "full" or not self.trained:
            return self.family
        wanted = f"{self.family}_{size}"
        return wanted if wanted in {**PRESETS, **BASELINES} else f"{self.family}_small"

    def scales(self, scales: tuple[float, ...]) -> tuple[float, ...]:
        """Select the scales that the method supports, as in the paper."""
        return scales if self.any_scale else tuple(scale for scale in scales if scale in (2, 3, 4))


#: Table I, in the paper's order.
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "bicubic": Method("Bicubic", "bicubic"),
        "edsr": Method("EDSR", "edsr", ("fixed_scale",), any_scale=False),
        "swinir": Method("SwinIR", "swinir", ("fixed_scale",), any_scale=False),
        "li_unet_gan": Method("Li et al.", "li_unet_gan", ("fixed_scale", "li_unet_gan"), any_scale=False),
        "swd_net": Method("SWD-Net", "swd_net", ("fixed_scale", "swd_net"), any_scale=False),
        "liif": Method("LIIF", "liif"),
        "lte": Method("LTE", "lte"),
        "iste": Method("ISTE", "iste", network_overlays=("nearest_corner",)),  # as printed, for every preset
    }
)


def _changed_iste(label: str, overlay: str) -> Method:
    iste = METHODS["iste"]
    return iste._replace(label=label, network_overlays=(*iste.network_overlays, overlay))


#: Table II: ISTE without one of its modules; a convolution stands in for TL.
ABLATIONS: Mapping[str, Method] = MappingProxyType(
    {
        "iste": METHODS["iste"],
        **{
            f"without_{module}": _changed_iste(f"w/o {module.upper()}", f"without_{module}")
            for module in ("lfi", "stf", "tl", "ltd")
        },
    }
)

#: Choices that the paper leaves open, decided otherwise than in Table I: see docs/choices.md.
CHOICES: Mapping[str, Method] = MappingProxyType(
    {
        "iste": METHODS["iste"],
        "four_corners": _changed_iste("texture at four corners", "four_corners"),
        "query_3x3": _changed_iste("3 x 3 projection", "query_3x3"),
        "lattice_keys": _changed_iste("training on lattice keys", "lattice_keys"),
    }
)

#: As many low-resolution pixels and points a step as in the budget ``light``, in crops of four times the area.
_LARGE_CROPS = MappingProxyType({"batch_size": 2, "lr_size": 64, "num_points": 4096})

_IN_LARGE_CROPS = METHODS["iste"]._replace(label="crops of 64 x 64, every pixel a key", options=_LARGE_CROPS)

#: What might pay where STF and LFI do not: see ``experiments/ideas.py``. LIIF gets what it can use, too.
IDEAS: Mapping[str, Method] = MappingProxyType(
    {
        "iste": METHODS["iste"],
        "soft_retrieval": _changed_iste("mean of 8 keys, of three scales", "soft_retrieval"),
        "high_band": _changed_iste("STF for the high band", "high_band"),
        "lfi_in_encoder": _changed_iste("LFI in the encoder", "lfi_in_encoder")._replace(
            network_overlays=(*ABLATIONS["without_lfi"].network_overlays, "lfi_in_encoder")
        ),
        "large_crops": _IN_LARGE_CROPS._replace(
            network_overlays=(*METHODS["iste"].network_overlays, "every_pixel_a_key")
        ),
        "large_crops_without_stf": _IN_LARGE_CROPS._replace(
            label="crops of 64 x 64, w/o STF", network_overlays=ABLATIONS["without_stf"].network_overlays
        ),
        "liif": METHODS["liif"],
        "liif_lfi_in_encoder": METHODS["liif"]._replace(
            label="LIIF, LFI in the encoder", network_overlays=("lfi_in_encoder",)
        ),
        "liif_large_crops": METHODS["liif"]._replace(label="LIIF, crops of 64 x 64", options=_LARGE_CROPS),
    }
)

#: Rows of Table I that the paper has not: other forms of ISTE, trained with the recipe of all.
VARIANTS: Mapping[str, Method] = MappingProxyType(
    {
        "four_corners": CHOICES["four_corners"]._replace(label="ISTE, four corners"),
        "iste_light2": Method("ISTE, second generation", "iste", only_preset="iste_light2"),
    }
)


class Budget(NamedTuple):
    """Training budget, the same for every method of a table.

    Args:
        size: size of the presets, "full", "small" or "light".
        steps: optimizer steps.
        batch_size: crops per step.
        lr_size: side of a low-resolution crop in pixels.
        num_points: coordinates per crop, for methods of any scale; the others are trained on whole crops.
        learning_rate: initial learning rate; the schedule is the bundle's.
        final_learning_rate: final learning rate.
        bicubic_residual: whether the networks add bicubic interpolation, so that they learn the difference to it.
        grid: 0 trains every method of any scale on scattered points; a number on that many random rows and as many
            random columns of each crop.
    """

    size: str
    steps: int
    batch_size: int
    lr_size: int
    num_points: int
    learning_rate: float
    final_learning_rate: float
    bicubic_residual: bool
    grid: int = 0

    def options(self) -> dict[str, Any]:
        """Return the bundle's settings of the same names, which are those of every method."""
        names = ("batch_size", "lr_size", "num_points", "learning_rate", "final_learning_rate")
        return {name: getattr(self, name) for name in names}


#: ``paper``: 1000 epochs over TCGA's 320 tiles in batches of 16, for GPUs. ``small`` and ``light``: for CPUs.
BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "light": Budget("light", 1000, 8, 32, 1024, 1e-3, 1e-5, True),
        "small": Budget("small", 1000, 4, 32, 1024, 5e-4, 1e-5, True),
        "paper": Budget("full", 20_000, 16, 48, 2304, 1e-4, 1e-4, False),
    }
)


def get_budget(name: str, steps: int | None = None, grid: int = 0) -> Budget:
    """Look up a budget by name; ``steps`` replaces its number of steps, ``grid`` its scattered points.

    Raises:
        ConfigError: there is no such budget.

    Example:
        >>> get_budget("light", steps=10).steps
        10
    """
    if name not in BUDGETS:
        raise ConfigError(f"a budget: {', '.join(BUDGETS)}", repr(name), "Choose one of these.")
    budget = BUDGETS[name]._replace(grid=grid)
    return budget if steps is None else budget._replace(steps=steps)


def method_of(preset: str) -> str:
    """Return the key of a preset's method in :data:`METHODS`, such as ``iste``, or the preset if it has none.

    Example:
        >>> method_of("iste_light2"), method_of("li_unet_gan_small"), method_of("mine")
        ('iste', 'li_unet_gan', 'mine')
    """
    sizes = ("full", "small", "light", "light2")
    return next((key for key, method in METHODS.items() if preset in map(method.preset, sizes)), preset)


def title_of(preset: str) -> str:
    """Return the table name of a preset's method, or the preset if it has none.

    Example:
        >>> title_of("iste_light"), title_of("swinir_small"), title_of("li_unet_gan")
        ('ISTE', 'SwinIR', 'Li et al.')
    """
    method = method_of(preset)
    return METHODS[method].label if method in METHODS else preset
