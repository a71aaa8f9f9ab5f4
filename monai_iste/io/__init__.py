"""Reading and writing image files, and what they say of themselves."""

from monai_iste.io.image_reader import IMAGE_SUFFIXES, image_size, read_rgb

__all__ = ["IMAGE_SUFFIXES", "image_size", "read_rgb"]
