"""A viewer that zooms past the scanner's limit: slides over HTTP, super-resolved at exactly the screen's scale.

:mod:`~monai_iste.cli.view` is the command, :mod:`~monai_iste.viewer.server` the HTTP interface,
:mod:`~monai_iste.viewer.rendering` where pixels come from. The extra ``viewer`` brings the web server.
"""

from monai_iste.viewer.catalog import Catalog, ViewedImage
from monai_iste.viewer.rendering import Renderer
from monai_iste.viewer.viewport import Frame, view_frame

__all__ = ["Catalog", "Frame", "Renderer", "ViewedImage", "view_frame"]
