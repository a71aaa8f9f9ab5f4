"""ISTE: the paper's Figure 2 as code. Wiring only; every box has its own file beside this one."""

from __future__ import annotations

import copy
import math
from typing import Optional, cast

import torch
from torch import Tensor, nn

from monai_iste.coordinates import (
    axis_centers,
    cell_size,
    corner_axis,
    four_corners,
    key_lattice,
    key_step,
    nearest_axis,
    nearest_pixel,
    output_size,
    pixel_centers,
    position,
    whole,
)
from monai_iste.errors import ShapeError, check_choice
from monai_iste.networks import tuning
from monai_iste.networks.base import UpscalingNetwork
from monai_iste.networks.checks import (
    check_blurs,
    check_grid,
    check_image,
    check_input_blur,
    check_learned_blurs,
    check_precision,
    check_queries,
)
from monai_iste.networks.encoders import SwinIREncoder
from monai_iste.networks.grid_sampling import batch_points, bicubic_at, ensemble, gather
from monai_iste.networks.iste_grid import Encoding, decode_grid, grid_colors
from monai_iste.networks.local_decoders import LocalPixelDecoder, LocalTextureDecoder
from monai_iste.networks.local_feature_interactor import LocalFeatureInteractor, QueryProjection
from monai_iste.networks.residual_gate import residual_gate
from monai_iste.networks.self_texture_fusion import SelfTextureFusion
from monai_iste.networks.texture_learner import ConvTexture, TextureLearner

_TEXTURE_CORNERS = {"nearest": (nearest_pixel, nearest_axis), "four": (four_corners, corner_axis)}


class ISTE(UpscalingNetwork):
    """Implicit Self-Texture Enhancement: one network for any scale.

    Implements Sec. III, Eq. (1)-(8) of Duan et al., arXiv:2401.15613: a shared encoder, a pixel branch (LFI, LPD) and a
    texture branch (TL, LTD), enhanced twice: stage 1 fuses retrieved texture into the features (STF), stage 2 adds the
    two branches' colors.

    Differs from the paper: see each module. Not specified in the paper; our choice: ``training_keys``,
    ``inference_keys`` and ``texture_corners`` below. ``bicubic_residual`` is not in the paper and is off by default.

    Args:
        encoder: image -> feature map, with an attribute ``out_channels``. Default: SwinIR at the paper's size.
        texture_channels: width T of texture, keys and queries.
        hidden_channels: width of the decoders' hidden layers.
        hidden_layers: number of the decoders' hidden layers.
        heads: attention heads of the LFI.
        query_kernel: kernel of the projection F_LFI -> F_LFIC, 1 or 3, see :class:`QueryProjection`.
        texture_corners: ``"nearest"``: one texture per query, as printed; ``"four"``: one per corner, colors blended
            by area, as in the authors' code (no jump at the border of two pixels, up to four times the cost).
        training_keys: textures that STF retrieves from during training: ``"queries"``, those of the sampled points
            (the paper), or ``"lattice"``.
        inference_keys: textures that STF retrieves from at inference. ``"lattice"``: one per low-resolution pixel at a
            fixed sub-pixel offset, thinned out to about ``key_side``^2 where there are more pixels. ``"all"``: every
            point of the output grid (the paper's words; the cost grows with m^2). Neither depends on the coordinates
            of a call.
        key_side: see ``inference_keys``; 48 gives as many keys as the paper trains with.
        blend: ``"colors"``: the colors of the corners are blended, as printed; ``"features"``: their hidden features
            are, before the decoders' other layers, which then run once per query instead of once per corner. Not in the
            paper.
        bicubic_residual: add the bicubic interpolation of the image, so that the network learns the difference. The
            difference is gated to 0 where the image is flat
            (:func:`monai_iste.networks.residual_gate.residual_gate`).
        scale: magnification of a whole image when the call names none.
        input_blur: blur of the images when the call names none; None: unknown. It needs an encoder that is told, such
            as :class:`~monai_iste.networks.BlurConditionedEncoder`.
        use_lfi, use_tl, use_stf, use_ltd: False removes a module for the paper's ablation (Table II).
    Attributes:
        learned_blur: smallest and largest ``input_blur`` of the network, as its released weights learned; None: any.
    Shape:
        image: (B, 3, h, w); coord: (B, Q, 2), order (y, x); cell: (B, 2) or (B, Q, 2); input_blur: (B,);
        returns (B, Q, 3) with coordinates, (B, 3, round(h * scale), round(w * scale)) without.
    Units: image and result in [0, 1], the result not clamped; coord in [-1, 1] (pixel centers); cell in half
        low-resolution pixels (2 / scale); input_blur is the sigma of a Gaussian in pixels of the image, NaN where
        unknown.
    Raises:
        ShapeError: a tensor's shape does not fit.
        ScaleError: the scale is not a positive number.
        ConfigError: an argument names an unknown variant, weights or image are in half precision, or ``input_blur`` is
            not a finite number of at least 0 or the encoder takes none.

    Example:
        >>> from monai_iste.networks import EDSREncoder
        >>> net = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()
        >>> net(torch.rand(1, 3, 5, 7), scale=3.7).shape
        torch.Size([1, 3, 18, 26])
        >>> net(torch.rand(1, 3, 5, 7), coord=torch.zeros(1, 2, 2), cell=torch.ones(1, 2)).shape
        torch.Size([1, 2, 3])
    """

    option_names = (
        *("heads", "texture_corners", "training_keys", "inference_keys", "key_side", "blend", "bicubic_residual"),
        *("scale", "input_blur"),
    )
    free_options = frozenset({"training_keys", "scale", "input_blur"})
    color_options = frozenset({"input_blur"})

    learned_blur: Optional[tuple[float, float]]

    __constants__ = ("takes_input_blur",)  # TorchScript leaves out the other branch
    __jit_unused_properties__ = ("input_blur",)
    __jit_ignored_attributes__ = ("learned_blur",)

    def __init__(
        self,
        encoder: Optional[nn.Module] = None,
        texture_channels: int = 256,
        hidden_channels: int = 256,
        hidden_layers: int = 3,
        heads: int = 1,
        query_kernel: int = 1,
        texture_corners: str = "nearest",
        training_keys: str = "queries",
        inference_keys: str = "lattice",
        key_side: int = 48,
        blend: str = "colors",
        bicubic_residual: bool = False,
        scale: float = 2.0,
        input_blur: Optional[float] = None,
        use_lfi: bool = True,
        use_tl: bool = True,
        use_stf: bool = True,
        use_ltd: bool = True,
    ) -> None:
        super().__init__()
        check_choice("texture_corners", texture_corners, _TEXTURE_CORNERS)
        check_choice("training_keys", training_keys, ("queries", "lattice"))
        check_choice("inference_keys", inference_keys, ("lattice", "all"))
        check_choice("blend", blend, ("colors", "features"))
        self.texture_neighbors, self.texture_axis = _TEXTURE_CORNERS[texture_corners]
        self.heads = heads
        self.texture_corners = texture_corners
        self.training_keys = training_keys
        self.inference_keys = inference_keys
        self.key_side = key_side
        self.blend = blend
        self.bicubic_residual = bicubic_residual
        output_size((1, 1), scale)  # raises ScaleError for invalid scales
        self.scale = float(scale)

        self.encoder = SwinIREncoder() if encoder is None else encoder
        self.takes_input_blur = bool(getattr(self.encoder, "takes_input_blur", False))
        self.learned_blur = None
        self._tell(input_blur)
        c, t = cast(int, self.encoder.out_channels), texture_channels
        self.local_feature_interactor = (
            LocalFeatureInteractor(c, t, heads, query_kernel) if use_lfi else QueryProjection(c, t, query_kernel)
        )
        self.texture_learner = TextureLearner(c, t) if use_tl else ConvTexture(c, t)
        self.self_texture_fusion = SelfTextureFusion(t) if use_stf else None
        self.local_pixel_decoder = LocalPixelDecoder(t, hidden_channels, hidden_layers, blend)
        self.local_texture_decoder = LocalTextureDecoder(t, hidden_channels, hidden_layers, blend) if use_ltd else None

    def forward(
        self,
        image: Tensor,
        coord: Optional[Tensor] = None,
        cell: Optional[Tensor] = None,
        scale: Optional[float] = None,
        input_blur: Optional[Tensor] = None,
    ) -> Tensor:
        """Compute the colors at ``coord``, or the whole image upscaled by ``scale``."""
        if coord is None:
            return self.upsample(image, self.scale if scale is None else scale, input_blur)
        if cell is None:
            cell = self.cell_at(image, scale)
        check_queries(image, coord, cell)
        check_precision(image, self.local_pixel_decoder.feature_part.weight)
        encoding = self.encode(image, coord, cell, input_blur)  # stage 1, feature domain: F_STF
        return self.decode(encoding, coord, cell)  # stage 2, spatial domain: I_Pred = I_LPD + I_LTD

    def encode(self, image: Tensor, coord: Tensor, cell: Tensor, input_blur: Optional[Tensor] = None) -> Encoding:
        """Stage 1, once per image: features that are enhanced in the feature domain by retrieved texture."""
        image = normalized(image)
        feat = self.encode_image(image, input_blur)  # F_LR
        feat_lfi = self.local_feature_interactor.attend(feat)  # F_LFI
        fused = self.local_feature_interactor.projection(feat_lfi)  # F_LFIC
        amp_freq = self.texture_learner.amp_freq(feat)  # A and f of Eq. (3)
        if self.self_texture_fusion is not None:
            keys = self.keys(amp_freq, coord, cell)  # F_TL at the canonical positions
            matrix = None if torch.jit.is_scripting() else self.local_feature_interactor.projection_matrix()
            fused = self.self_texture_fusion(fused, keys, feat_lfi, matrix)  # F_STF
        gate = residual_gate(image) if self.bicubic_residual else None
        return Encoding(image, amp_freq, self.local_pixel_decoder.features(fused), gate)

    def encode_image(self, image: Tensor, input_blur: Optional[Tensor] = None) -> Tensor:
        """Compute the encoder's feature map F_LR of an image in [-1, 1]; :attr:`input_blur` counts where none is given.

        An encoder that takes no blur is not told.
        """
        if self.takes_input_blur:
            if input_blur is None:
                return self.encoder(image, image.new_full((image.shape[0],), self._input_blur))
            blurs = check_blurs(image, input_blur)
            if not torch.jit.is_scripting() and not self.training:  # training may widen the range
                check_learned_blurs(blurs, self.learned_blur)
            return self.encoder(image, blurs)
        return self.encoder(image)

    @torch.jit.unused
    def with_input_blur(self, input_blur: Optional[float]) -> ISTE:
        """Return a network of the same layers that takes this blur for that of its images; None: unknown."""
        network = copy.copy(self)
        # Each has dictionaries of its own: a hook or another encoder of one is none of the other.
        network.__dict__.update({name: copy.copy(own) for name, own in vars(self).items() if isinstance(own, dict)})
        network._tell(input_blur)
        return network

    @torch.jit.unused
    def _tell(self, input_blur: Optional[float]) -> None:
        blur = check_input_blur(input_blur, self.takes_input_blur, self.learned_blur)
        self._input_blur = math.nan if blur is None else blur

    @property
    def input_blur(self) -> Optional[float]:
        """Blur of the images when the call names none; None: unknown."""
        return None if math.isnan(self._input_blur) else self._input_blur

    def colors(self, encoding: Encoding, coord: Tensor, cell: Tensor) -> Tensor:
        """Stage 2, once per query: colors of the pixel branch, enhanced in the spatial domain by those of the texture.

        Shape:
            coord: (B, Q, 2); cell: (B, 2) or (B, Q, 2); returns (B, Q, 3).
        """
        size = (encoding.image.shape[2], encoding.image.shape[3])
        corners = four_corners(coord, size)
        rgb = self.local_pixel_decoder(encoding.features, corners, cell)  # I_LPD
        if self.local_texture_decoder is not None:
            neighbors = self.texture_neighbors(coord, size)
            texture = self.texture_learner(encoding.amp_freq, neighbors, cell)  # F_TL
            rgb = rgb + self.local_texture_decoder(texture, neighbors)  # + I_LTD
        gate = encoding.gate
        if gate is not None:
            rgb = rgb * ensemble(gather(gate, corners.pixel), corners) + bicubic_at(encoding.image, coord)
        return rgb.to(encoding.image.dtype) * 0.5 + 0.5

    def decode(self, encoding: Encoding, coord: Tensor, cell: Tensor) -> Tensor:
        """Compute :meth:`colors`; without gradients in strips of queries, so that memory stays flat."""
        if torch.is_grad_enabled():
            return self.colors(encoding, coord, cell)
        strip = max(1, tuning.MAX_DECODER_ELEMENTS // (4 * encoding.features.shape[1]))
        rgb = []
        for start in range(0, max(1, coord.shape[1]), strip):  # zero queries have a result too: (B, 0, 3)
            cells = cell if cell.ndim == 2 else cell[:, start : start + strip]
            rgb.append(self.colors(encoding, coord[:, start : start + strip], cells))
        return torch.cat(rgb, dim=1)

    @torch.jit.unused
    def forward_grid(
        self, image: Tensor, rows: Tensor, columns: Tensor, cell: Tensor, input_blur: Optional[Tensor] = None
    ) -> Tensor:
        """Compute the colors on a regular grid, or on one grid per image, on the fast paths of :mod:`.iste_grid`.

        The result and its gradients are those of :meth:`forward` at the same coordinates, within rounding.

        Shape:
            image: (B, 3, h, w); rows: (H,) or (B, H) and columns: (W,) or (B, W), coordinates in [-1, 1];
            cell: (B, 2); input_blur: (B,); returns (B, 3, H, W).
        Units: as for the class.
        """
        check_grid(image, rows, columns, cell, per_image=True)
        check_precision(image, self.local_pixel_decoder.feature_part.weight)
        one_grid = rows.ndim == columns.ndim == 1
        if tuning.FAST_PATHS and one_grid and not self.training and not torch.is_grad_enabled():
            return decode_grid(self, normalized(image), rows, columns, cell, input_blur)
        coord = batch_points(rows, columns, image.shape[0])
        encoding = self.encode(image, coord, cell, input_blur)
        if tuning.FAST_PATHS and torch.is_grad_enabled():
            return grid_colors(self, encoding, rows, columns, cell)
        rgb = self.decode(encoding, coord, cell)
        return rgb.mT.reshape(image.shape[0], 3, rows.shape[-1], columns.shape[-1])

    def upsample(self, image: Tensor, scale: float, input_blur: Optional[Tensor] = None) -> Tensor:
        """Upscale the whole image in one pass, with retrieval over the whole map."""
        size = (image.shape[2], image.shape[3]) if image.ndim == 4 else (1, 1)
        height, width = output_size(size, scale)
        check_image(image)
        cell = cell_size(size, (height, width), image.device).expand(image.shape[0], -1)
        if not torch.jit.is_scripting():
            rows, columns = axis_centers(height, image.device), axis_centers(width, image.device)
            return self.forward_grid(image, rows, columns, cell, input_blur)
        coord = pixel_centers((height, width), image.device).expand(image.shape[0], -1, -1)
        rgb = self.decode(self.encode(image, coord, cell, input_blur), coord, cell)
        return rgb.mT.reshape(image.shape[0], 3, height, width)

    def cell_at(self, image: Tensor, scale: Optional[float]) -> Tensor:
        """Cells (B, 2) of the image upscaled by ``scale``."""
        if scale is None:
            raise ShapeError("cell or scale beside coord", "neither", "Pass cell=2/scale, see cell_size().")
        size = (image.shape[2], image.shape[3]) if image.ndim == 4 else (1, 1)
        return cell_size(size, output_size(size, scale), image.device).expand(image.shape[0], -1)

    def keys(self, amp_freq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Textures that stage 1 retrieves from, (B, K, T): see ``training_keys`` and ``inference_keys``."""
        size = (amp_freq.shape[2], amp_freq.shape[3])
        kind = self.training_keys if self.training else self.inference_keys
        if kind == "queries":
            return self.texture_learner(amp_freq, nearest_pixel(coord, size), cell).squeeze(2)
        cell = cell if cell.ndim == 2 else cell.mean(1)  # all queries of an image have its scale
        if kind == "lattice":
            return self.texture_learner.keys(amp_freq, cell, self.key_side)
        grid = pixel_centers(self.output_of(cell, size), amp_freq.device)
        neighbors = nearest_pixel(grid.expand(cell.shape[0], -1, -1), size)
        return self.texture_learner(amp_freq, neighbors, cell).squeeze(2)

    def key_positions(self, size: tuple[int, int], cell: Tensor) -> Tensor:
        """Positions of the inference keys in an image of ``size``: (K, 2), (y, x), float64, in its pixels."""
        if self.inference_keys == "all":
            return position(pixel_centers(self.output_of(cell, size)), size)
        pixels = torch.cartesian_prod(torch.arange(size[0]), torch.arange(size[1]))
        places = (pixels + key_lattice(size).double() / 2).view(*size, 2)  # the lattice is in half pixels
        step = key_step(size, self.key_side)
        return places[::step, ::step].reshape(-1, 2)

    def output_of(self, cell: Tensor, size: tuple[int, int]) -> tuple[int, int]:
        """Size (H, W) of the output that cells (B, 2) belong to."""
        if not torch.equal(cell, cell[:1].expand_as(cell)):
            received = f"cells from {float(cell.min())} to {float(cell.max())}"
            raise ShapeError("one scale for the whole batch with keys 'all'", received, "Split the batch.")
        return whole(2 * size[0] / float(cell[0, 0])), whole(2 * size[1] / float(cell[0, 1]))


def normalized(image: Tensor) -> Tensor:
    """Map an image from [0, 1] to [-1, 1], channels last in memory, which is faster in convolutions."""
    return ((image - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
