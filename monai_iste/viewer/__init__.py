"""HTTP viewer of slides that super-resolves at exactly the screen's scale.

:mod:`~monai_iste.cli.view` is the command, :mod:`~monai_iste.viewer.server` the HTTP interface,
:mod:`~monai_iste.viewer.rendering` computes the pixels. The extra ``viewer`` installs the web server.
"""
