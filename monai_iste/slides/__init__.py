"""Whole slides: regions read at any pixel size, and magnified in bounded memory."""

from monai_iste.slides.reader import Slide

__all__ = ["Slide"]
