"""HTTP viewer of slides that super-resolves at exactly the screen's scale.

:mod:`~monai_iste.cli.view` is the command, :mod:`~monai_iste.viewer.server` the HTTP interface,
:mod:`~monai_iste.viewer.rendering` computes the pixels. The extra ``viewer`` installs the web server.
"""

from monai_iste.viewer.catalog import Catalog as Catalog
from monai_iste.viewer.catalog import CatalogImage as CatalogImage
from monai_iste.viewer.rendering import Renderer as Renderer
from monai_iste.viewer.viewport import Viewport as Viewport
from monai_iste.viewer.viewport import snap_viewport as snap_viewport
