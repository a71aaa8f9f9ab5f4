"""Range of inputs that weights were trained for, and the sentence for an input outside of it."""

from __future__ import annotations

from typing import NamedTuple

# A value counts as outside if it passes the range by this factor: the range holds 98 % of the training's inputs.
_FAR = 1.5


class InputTraits(NamedTuple):
    """Measured traits of an image (:func:`monai_iste.inferers.input_traits.measure_traits`); None where unknown.

    Attributes:
        mpp: micrometers per pixel.
        sharpness: fraction of the spectral energy above half the Nyquist frequency.
        blockiness: steps at the borders of 8 x 8 blocks, relative to those inside of them; 1 without compression.
    """

    mpp: float | None = None
    sharpness: float | None = None
    blockiness: float | None = None


class LearnedRange(NamedTuple):
    """Smallest and largest traits of the images that weights were trained on, after their degradation.

    ``python -m benchmarks.learned_range`` measures it.

    Attributes:
        mpp: micrometers per pixel.
        sharpness: see :class:`InputTraits`.
        blockiness: largest one.
        input_blur: blur that the weights were told, in pixels; None: they were told none.
    """

    mpp: tuple[float, float]
    sharpness: tuple[float, float]
    blockiness: float
    input_blur: tuple[float, float] | None = None

    def describe_departure(self, traits: InputTraits) -> str:
        """Describe in which traits an input is far outside the range; empty if in none.

        Example:
            >>> learned = LearnedRange((0.25, 4.0), (0.001, 0.1), 1.5)
            >>> learned.describe_departure(InputTraits(0.3, 0.01, 1.1))
            ''
            >>> learned.describe_departure(InputTraits(mpp=0.1, blockiness=2.4))
            'pixels of 0.1 um (learned: 0.25 to 4), stronger compression (block borders 2.4, learned: up to 1.5)'
        """
        found = []
        if traits.mpp is not None and not self.mpp[0] / _FAR <= traits.mpp <= self.mpp[1] * _FAR:
            found.append(f"pixels of {traits.mpp:.3g} um (learned: {self.mpp[0]:g} to {self.mpp[1]:g})")
        if (
            traits.sharpness is not None
            and not self.sharpness[0] / _FAR <= traits.sharpness <= self.sharpness[1] * _FAR
        ):
            kind = "softer" if traits.sharpness < self.sharpness[0] else "sharper or noisier"
            low, high = (f"{100 * value:.2g}" for value in self.sharpness)
            found.append(f"{kind} ({100 * traits.sharpness:.2g} % fine detail, learned: {low} to {high} %)")
        if traits.blockiness is not None and traits.blockiness - 1 > _FAR * (self.blockiness - 1):
            found.append(
                f"stronger compression (block borders {traits.blockiness:.2g}, learned: up to {self.blockiness:g})"
            )
        return ", ".join(found)
