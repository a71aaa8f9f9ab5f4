"""Numbers reported in the paper: Tables I to IV of Duan et al., arXiv:2401.15613.

They are shown beside measured numbers and never replace them: data, crops, training and FID's patches differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from monai_iste.errors import ConfigError

SOURCE = "Duan et al., arXiv:2401.15613"

Scores = Mapping[str, float]

Entries = dict[tuple[str, str, float], Scores]

# Each block: one line of scales, then one line per method with a cell per scale. This line: the metrics of a cell.
_SUPER_RESOLUTION = "psnr/fid/ssim"

_TABLE_1 = {
    "tcga": """
                  x2                   x3                  x4                   x6                   x8
    bicubic       32.98/6.96/.9353     28.12/35.37/.807    25.63/76.11/.6874    23.05/129/.5354      21.64/167.12/.4606
    edsr          36.14/1.32/.9709     31.16/3.43/.901     28.01/28.2/.8074     -                    -
    swinir        36.73/1.29/.9731     31.77/2.65/.9094    28.83/19.88/.8258    -                    -
    li_unet_gan   34.61/2.16/.958      29.89/4.49/.8725    26.57/17.16/.7358    -                    -
    swd_net       36.76/1.23/.9734     31.73/2.97/.9074    28.85/17.78/.8219    -                    -
    liif          36.92/1.23/.9742     31.99/2.92/.911     29.08/17.58/.8275    25.55/88.64/.6641    23.72/120.62/.5609
    lte           36.99/1.22/.9748     31.98/2.96/.9109    29.11/17.22/.828     25.52/90.37/.6617    23.67/124.3/.558
    iste          37.76/1.07/.9796     32.06/2.86/.9124    29.19/16.45/.8307    25.61/88.62/.6674    23.76/122.12/.5637
    """,
    "tma": """
                  x2                   x3                  x4                   x6                   x8
    bicubic       28.54/8.58/.8931     25.25/29.19/.7708   23.43/54.4/.6735     21.5/88.33/.5647     20.44/114.24/.5123
    edsr          30.54/3.72/.937      26.38/11.73/.8228   24.94/29.07/.7652    -                    -
    swinir        31.20/3.2/.9438      28.18/5.57/.8773    26.26/14.35/.8092    -                    -
    li_unet_gan   29.5/4.66/.9211      26.09/6.53/.8207    24.06/13.11/.7206    -                    -
    swd_net       31.18/3.1/.943       28.06/5.39/.8746    26.09/15.04/.8024    -                    -
    liif          30.76/3.63/.9422     27.84/6.11/.8745    25.87/17.14/.799     23.5/53.55/.6751     22.05/82.5/.5954
    lte           31.26/3.15/.9434     28.19/5.39/.8784    26.22/15.4/.8077     23.73/53.66/.6806    22.17/82.74/.5974
    iste          31.27/2.77/.9444     28.23/4.74/.8809    26.46/13.53/.816     23.86/49.27/.6851    22.19/75.32/.5965
    """,
    "histosr": """
                  x2                   x3                  x4                   x6                   x8
    bicubic       27.43/23.6/.8585     23.88/58.58/.6999   22.01/93.7/.577      19.95/172.7/.4259    18.89/242.28/.3529
    edsr          31.53/8.2/.9407      27.81/37.4/.8588    25.76/66.03/.782     -                    -
    swinir        31.51/9.21/.9397     27.89/38.34/.8624   25.9/77.72/.787      -                    -
    li_unet_gan   28.98/3.86/.9024     25.34/10.85/.7843   23.5/17.77/.6893     -                    -
    swd_net       31.49/8.95/.9393     27.87/38.92/.8595   25.78/71.32/.781     -                    -
    liif          31.56/9.24/.9399     28.03/39/.8639      25.93/76.69/.7862    22.94/130.53/.6279   20.87/156.85/.4889
    lte           31.58/9.54/.9403     28.03/39.05/.8647   25.93/77.06/.7872    22.95/130.56/.6298   20.89/154.28/.4909
    iste          31.65/8.92/.9410     28.14/37.82/.8673   26.05/75.45/.7909    23.01/128.81/.6331   20.94/153.27/.4948
    """,
}

_TABLE_2 = {
    "tcga": """
                  x2                   x3                  x4
    iste          37.76/1.07/.9796     32.06/2.86/.9124    29.19/16.45/.8307
    without_lfi   37.61/1.08/.9788     32.04/2.9/.9121     29.18/16.69/.8303
    without_stf   37.66/1.07/.9791     32.04/2.88/.9121    29.17/17.05/.8301
    without_tl    37.64/1.08/.979      32.04/2.91/.9121    29.17/16.65/.8301
    without_ltd   37.63/1.07/.9789     32.04/2.87/.912     29.17/16.53/.8302
    """,
}

# Gland segmentation at x4. hr_unet: U-Net trained on reconstructions and run on originals; sisr: vice versa.
_TABLE_3 = {
    "glas_a": """
                  x4
    bicubic       .71/.83/133.73
    hr_unet       .84/.89/100.57
    sisr          .92/.94/77.74
    original      .95/.96/66.7
    """,
    "glas_b": """
                  x4
    bicubic       .85/.88/109.21
    hr_unet       .88/.92/84.64
    sisr          .93/.95/65.81
    original      .93/.96/61.17
    """,
}

# A ResNet-50 trained on originals; accuracy in percent, as printed.
_TABLE_4 = {
    "pcam": """
                     x2
    original         86.17/.8507
    low_resolution   58.11/.2929
    bicubic          77.09/.7419
    liif             80.54/.7721
    iste             81.15/.7816
    """,
}


def _parse(blocks: Mapping[str, str], metrics: str) -> Entries:
    """Parse one table to {(dataset, method, scale): {metric: number}}."""
    entries: Entries = {}
    for dataset, block in blocks.items():
        header, *lines = block.strip().splitlines()
        scales = [float(scale.removeprefix("x")) for scale in header.split()]
        for line in lines:
            method, *cells = line.split()
            for scale, cell in zip(scales, cells, strict=True):
                if cell != "-":
                    numbers = zip(metrics.split("/"), cell.split("/"), strict=True)
                    entries[dataset, method, scale] = MappingProxyType({m: float(number) for m, number in numbers})
    return entries


#: Reported numbers by table, then by data set, method and scale. PSNR is in dB, accuracy in percent, the Hausdorff
#: distance in pixels; the others have no unit.
REPORTED: Mapping[int, Mapping[tuple[str, str, float], Scores]] = MappingProxyType(
    {
        1: _parse(_TABLE_1, _SUPER_RESOLUTION),
        2: _parse(_TABLE_2, _SUPER_RESOLUTION),
        3: _parse(_TABLE_3, "f1/object_dice/object_hausdorff"),
        4: _parse(_TABLE_4, "accuracy/f1"),
    }
)


def reported(table: int, dataset: str, method: str, scale: float) -> Scores | None:
    """Look up the numbers of one cell of the paper's tables.

    Args:
        table: 1 (methods), 2 (ablations), 3 (gland segmentation) or 4 (tumor classification).
        dataset: Table 1 has ``tcga``, ``tma`` and ``histosr``; 2 ``tcga``; 3 ``glas_a`` and ``glas_b``; 4 ``pcam``.
        method: key of the row, such as ``iste``.
        scale: scale factor.
    Returns:
        the numbers by metric; None where the paper prints "-" or has no such row or column.
    Raises:
        ConfigError: there is no such table, or it has no such data set.

    Example:
        >>> reported(1, "tcga", "iste", 2)["psnr"]
        37.76
        >>> reported(1, "tcga", "edsr", 8) is None
        True
    """
    entries = REPORTED.get(table, {})
    datasets = list(dict.fromkeys(name for name, _, _ in entries))
    if dataset not in datasets:
        tables = {number: list(dict.fromkeys(key[0] for key in REPORTED[number])) for number in REPORTED}
        raise ConfigError(
            "a table of the paper and a data set in it: "
            + "; ".join(f"{number} with {', '.join(names)}" for number, names in tables.items()),
            f"{table} with {dataset}",
            "Choose one of these.",
        )
    return entries.get((dataset, method, float(scale)))
