"""Published weight files: where they come from, under which licence, and how to tell that one is the right one.

A slot is a place where an extractor needs weights; its first file is the default, the others are alternatives that
``[weights] choose`` names. Checksums and sizes stand here where the publisher states them (torch.hub's file names end
in the first eight digits of the sha256); where nothing is stated, the strict load by key and shape is the check, and
the sha256 of what was loaded is written into every feature file.
"""

from __future__ import annotations

from dataclasses import dataclass

SELAVI_CITATION = "Asano et al., Labelling unlabelled videos from scratch with multi-modal self-supervision, 2020"
C3D_CITATION = "Tran et al., Learning spatiotemporal features with 3D convolutional networks, ICCV 2015"
VGGISH_CITATION = "Hershey et al., CNN architectures for large-scale audio classification, ICASSP 2017"


@dataclass(frozen=True)
class WeightFile:
    """``sha256``: the checksum, or its leading digits where only those are published, or empty. ``bytes``: 0 unknown.

    ``carries_more``: the file holds NumPy values or argument lists beside tensors; they are read by a restricted
    unpickler that knows these few types and refuses all others.
    """

    name: str
    file_name: str
    url: str
    licence: str
    citation: str
    sha256: str = ""
    bytes: int = 0
    carries_more: bool = False


@dataclass(frozen=True)
class Slot:
    """Weights that an extractor needs. ``needed_by``: only where this deviation is published; empty: always."""

    name: str
    files: tuple[WeightFile, ...]
    needed_by: str = ""


def _selavi(name: str, file_name: str) -> WeightFile:
    return WeightFile(
        name,
        file_name,
        f"https://dl.fbaipublicfiles.com/selavi/{file_name}",
        "CC-BY-NC-4.0 (not for commercial use)",
        SELAVI_CITATION,
        carries_more=True,
    )


SELAVI = Slot(
    "selavi",
    (
        _selavi("selavi_vggsound", "selavi_vgg_sound.pth"),
        _selavi("selavi_ave", "selavi_ave.pth"),
        _selavi("selavi_kinetics_sound", "selavi_kinetics_sound.pth"),
        _selavi("selavi_kinetics", "selavi_kinetics.pth"),
    ),
)

C3D = Slot(
    "c3d",
    (
        WeightFile(
            "c3d_sports1m",
            "c3d.pickle",
            "http://imagelab.ing.unimore.it/files/c3d_pytorch/c3d.pickle",
            "MIT (DavideA/c3d-pytorch); trained on Sports-1M",
            C3D_CITATION,
        ),
    ),
)

_TORCHVGGISH = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"

VGGISH = Slot(
    "vggish",
    (
        WeightFile(
            "pytorch_vggish",
            "pytorch_vggish.pth",
            "https://zenodo.org/record/3839226/files/pytorch_vggish.pth?download=1",
            "Apache-2.0 (converted from the AudioSet release)",
            VGGISH_CITATION,
        ),
        WeightFile(
            "torchvggish",
            "vggish-10086976.pth",
            _TORCHVGGISH + "vggish-10086976.pth",
            "Apache-2.0 (converted from the AudioSet release)",
            VGGISH_CITATION,
            sha256="10086976",
        ),
    ),
)

VGGISH_PCA = Slot(
    "vggish_pca",
    (
        WeightFile(
            "vggish_pca",
            "vggish_pca_params.npz",
            "https://storage.googleapis.com/audioset/vggish_pca_params.npz",
            "Apache-2.0 (AudioSet release)",
            VGGISH_CITATION,
        ),
        WeightFile(
            "torchvggish_pca",
            "vggish_pca_params-970ea276.pth",
            _TORCHVGGISH + "vggish_pca_params-970ea276.pth",
            "Apache-2.0 (converted from the AudioSet release)",
            VGGISH_CITATION,
            sha256="970ea276",
            carries_more=True,
        ),
    ),
    needed_by="vggish_codes",
)
