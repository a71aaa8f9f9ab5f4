"""Reading and writing of image files, and their pixel sizes."""

from monai_iste.io.image_reader import ImageInfo, probe, read_rgb

__all__ = ["ImageInfo", "probe", "read_rgb"]
