"""A viewer that zooms past the scanner's limit: slides over HTTP, super-resolved at exactly the screen's scale.

:mod:`~monai_iste.viewer.command` is the command, :mod:`~monai_iste.viewer.server` the HTTP interface,
:mod:`~monai_iste.viewer.rendering` where pixels come from. The extra ``viewer`` brings the web server.
"""

from monai_iste.viewer.frame import Frame, view_frame
from monai_iste.viewer.images import Catalogue, ViewedImage
from monai_iste.viewer.rendering import Renderer

__all__ = ["Catalogue", "Frame", "Renderer", "ViewedImage", "view_frame"]
