"""Images with captions as they are published: folders, WebDataset shards, and COCO's captions.

A folder holds, as one written by img2dataset from Conceptual 12M (Changpinyo et al. 2021, arXiv:2102.08981) does,
`<key>.jpg` beside `<key>.txt` or `<key>.json`, whose `caption` is read; shards are tar files of the same. Where the
release has a class for each image too, `<key>.cls` names it. COCO (Chen et al. 2015, arXiv:1504.00325) has several
captions for an image. An image without one is kept: it is unpaired.
"""

import json
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import ConfigError
from pipeline.config.types import BelowOne, Count, Fraction, Natural
from pipeline.data.inspection import FORMATS, Findings, Picture, look_at
from pipeline.data.official import check_counts, check_root, journal_of
from pipeline.data.packed import Packed, PackWriter
from pipeline.data.pictures import open_whole
from pipeline.data.tokens import NAME, WordPiece
from pipeline.manifest import sha256

KEY = "root"
LARGEST = {"image": 256 * 2**20, "text": 2**20}  # bytes that are read of one file of a shard
EXPECTED = {
    "folder": "Expected: <key>.jpg beside <key>.txt or <key>.json, in train/ and val/ or all together. "
    "Conceptual 12M: google-research-datasets/conceptual-12m lists addresses, img2dataset fetches them",
    "webdataset": "Expected: *.tar with <key>.jpg and <key>.txt or <key>.json, in train/ and val/ or all together. "
    "Conceptual 12M: google-research-datasets/conceptual-12m lists addresses, img2dataset writes such shards",
    "coco": "Expected: train2017/*.jpg, val2017/*.jpg and annotations/captions_{train,val}2017.json, "
    "from cocodataset.org",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a set of captioned images that the user keeps.

    root: its folder.
    layout: `folder`, `webdataset` or `coco`.
    vocabulary: file of WordPiece tokens, one a line, such as that of `bert-base-uncased`.
    texts: file of texts without images, one a line; null: none.
    val_share: of the keys, held out where the set comes in one part; told by the key alone.
    expect: numbers of `train` and `val` images, checked before images are read; null: none.
    max_reject_share: largest share of its samples that may be unusable; some of the web's always are.
    num_workers: threads that read and decode; null: one for each CPU of the process.
    shard_mib: size of a pack's shards; 0 for one a file.
    """

    root: str | None
    layout: str
    vocabulary: str | None
    texts: str | None
    val_share: BelowOne
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    num_workers: Count | None
    shard_mib: Natural


class Blob(NamedTuple):
    """Bytes of a file: all, or those that a shard holds of one of its members."""

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self, largest: int) -> bytes:
        size = self.path.stat().st_size if self.size is None else self.size
        if size > largest:
            raise ValueError(f"{size:,} bytes, more than {largest:,}")
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(size)


@dataclass
class Sample:
    """One image of a release: its key, the files that bear it by suffix, captions that are known beforehand."""

    key: str
    files: dict[str, Blob]
    captions: list[str] | None = None


@dataclass(frozen=True)
class Captioned:
    """A picture with what is said of it."""

    picture: Picture
    captions: list[str]
    label: int


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set: images, their captions as lists in JSON, texts without images, the vocabulary.

    Raises:
        ConfigError: the root, its layout, its counts, its vocabulary or too many files are not as they should be.
    """
    if options.layout not in EXPECTED:
        raise ConfigError(f"layout is {options.layout!r}; available: {sorted(EXPECTED)}")
    if options.vocabulary is None:
        raise ConfigError("vocabulary is not set; expected the path of a vocab.txt, such as that of bert-base-uncased")
    words = WordPiece(Path(options.vocabulary).expanduser())
    splits = _coco(options) if options.layout == "coco" else _keyed(options)
    root = Path(options.root or "").expanduser()
    check_counts(KEY, root, options.expect, {split: len(samples) for split, samples in splits.items()})
    classes = sorted({name for samples in splits.values() for name in map(_class_of, samples) if name is not None})
    labels = {name: label for label, name in enumerate(classes)}
    findings, told = Findings(), {}
    for split, samples in splits.items():
        told[split] = _pack(options, split, samples, labels, words, findings, work, files)
    (files / NAME).write_bytes(words.path.read_bytes())
    (files / "classes.json").write_text(json.dumps(classes))
    return {
        "splits": told,
        "classes": classes,
        "texts": _pack_texts(options, words, findings, work, files),
        "vocabulary": {"size": len(words), "sha256": sha256(files / NAME)},
        **findings.close(files, str(root), options.max_reject_share),
    }


def read_sample(sample: Sample, labels: Mapping[str, int], words: WordPiece) -> tuple[Captioned, list[str]]:
    """Decodes an image and reads its captions; also what is odd about them.

    Raises:
        ValueError: there is no image, it is broken, or its caption is no text.
        OSError: its file is not there.
    """
    if "\n" in sample.key:
        raise ValueError("its key holds a line break")
    suffix = next((suffix for suffix in FORMATS if suffix in sample.files), None)
    if suffix is None:
        raise ValueError(f"a caption of an image that is not there; expected {' or '.join(FORMATS)} beside it")
    data = sample.files[suffix].read(LARGEST["image"])
    image = open_whole(data)
    captions = sample.captions if sample.captions is not None else _captions(sample.files)
    spoken = [caption for caption in (" ".join(text.split()) for text in captions) if words.ids(caption)]
    notes = ["a caption of no words, left out"] if len(spoken) < len(captions) else []
    name = _class_of(sample)
    if labels and name is None:
        raise ValueError("no class, which others of the set have")
    label = -1 if name is None else labels[name]
    return Captioned(Picture(data, image.height, image.width, ()), spoken, label), notes


def _pack(
    options: Options,
    split: str,
    samples: list[Sample],
    labels: Mapping[str, int],
    words: WordPiece,
    findings: Findings,
    work: Path,
    files: Path,
) -> dict[str, int]:
    bytes_ = options.shard_mib * 2**20
    with PackWriter(files, split, bytes_) as images, PackWriter(files, f"{split}-captions", bytes_) as captions:
        for sample, (seen, _) in look_at(
            samples,
            name=lambda sample: sample.key,
            look=lambda sample: read_sample(sample, labels, words),
            notes=lambda found: found[1],
            findings=findings,
            num_workers=options.num_workers,
            what=f"packing {split}",
            packs=(images, captions),
            journal=journal_of(work, split),
        ):
            size = {"height": seen.picture.height, "width": seen.picture.width}
            images.add(sample.key, seen.picture.data, label=seen.label, **size)
            captions.add(sample.key, json.dumps(seen.captions).encode())
    packed = Packed(files, f"{split}-captions")
    numbers = [len(json.loads(packed.read(position))) for position in range(len(packed))]
    return {"count": len(numbers), "captions": sum(numbers), "without_caption": numbers.count(0)}


def _pack_texts(options: Options, words: WordPiece, findings: Findings, work: Path, files: Path) -> int:
    """Packs the texts without images; returns how many there are."""
    if options.texts is None:
        return 0
    path = Path(options.texts).expanduser()
    if not path.is_file():
        raise ConfigError(f"texts is {options.texts!r}, and there is no such file; expected one text a line, or null")

    def look(line: tuple[int, bytes]) -> bytes:
        if not words.ids(_text(line[1])):
            raise ValueError("a text of no words")
        return line[1]

    with PackWriter(files, "texts", options.shard_mib * 2**20) as pack:
        for (number, _), line in look_at(
            list(enumerate(path.read_bytes().splitlines(), 1)),
            name=lambda line: f"{path.name}, line {line[0]}",
            look=look,
            notes=lambda line: (),
            findings=findings,
            num_workers=options.num_workers,
            what="packing texts",
            packs=(pack,),
            journal=journal_of(work, "texts"),
        ):
            pack.add(f"line {number}", line)
    return len(pack)


def _keyed(options: Options) -> dict[str, list[Sample]]:
    """Samples of folders or shards: in two parts, or in one of which some are held out."""
    root = check_root(options.root, KEY, EXPECTED[options.layout], ())
    read = _shards if options.layout == "webdataset" else _folder
    if (root / "train").is_dir() and (root / "val").is_dir():
        splits = {split: read(root / split) for split in ("train", "val")}
    else:
        if not 0 < options.val_share < 1:
            raise ConfigError(
                f"val_share is {options.val_share}, and {root} has no train/ and val/; expected a share to hold out, "
                "such as 0.01"
            )
        whole = read(root)
        held = [zlib.crc32(sample.key.encode()) < options.val_share * 2**32 for sample in whole]
        splits = {
            split: [sample for sample, out in zip(whole, held, strict=True) if out == (split == "val")]
            for split in ("train", "val")
        }
    for split, samples in splits.items():
        if not samples:
            raise ConfigError(f"{KEY} is {str(root)!r}, where {split} has no images. {EXPECTED[options.layout]}")
    return splits


def _folder(folder: Path) -> list[Sample]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return _grouped((str(path.relative_to(folder)), Blob(path)) for path in paths)


def _shards(folder: Path) -> list[Sample]:
    found: list[Sample] = []
    for path in sorted(folder.glob("*.tar")):
        try:
            with tarfile.open(path, "r:") as shard:
                members = [(member.name, Blob(path, member.offset_data, member.size))
                           for member in shard if member.isreg()]  # fmt: skip
        except tarfile.TarError as error:
            raise ConfigError(f"{path} is not a whole tar file ({error}); copy it again") from None
        found += _grouped((f"{path.stem}/{name}", blob) for name, blob in members)
    return found


def _grouped(files: Iterable[tuple[str, Blob]]) -> list[Sample]:
    """Files that share all but what follows the first dot of their name; others than samples' are passed over."""
    samples: dict[str, Sample] = {}
    for name, blob in files:
        folder, _, file = name.rpartition("/")
        stem, dot, suffix = file.partition(".")
        suffix = f".{suffix.lower()}"
        if dot and suffix in (*FORMATS, ".txt", ".json", ".cls"):
            key = f"{folder}/{stem}" if folder else stem
            samples.setdefault(key, Sample(key, {})).files[suffix] = blob
    return list(samples.values())


def _coco(options: Options) -> dict[str, list[Sample]]:
    names = {split: f"annotations/captions_{split}2017.json" for split in ("train", "val")}
    root = check_root(options.root, KEY, EXPECTED["coco"], ("train2017", "val2017", *names.values()))
    splits = {}
    for split, name in names.items():
        try:
            content = json.loads((root / name).read_bytes())
            images = {image["id"]: f"{split}2017/{image['file_name']}" for image in content["images"]}
            samples = {number: Sample(file, {Path(file).suffix.lower(): Blob(root / file)}, [])
                       for number, file in images.items()}  # fmt: skip
            for entry in content["annotations"]:
                number = entry["image_id"]  # of a caption whose image is not listed, a reject
                samples.setdefault(number, Sample(f"{split}2017/{number}", {}, [])).captions.append(entry["caption"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{root / name} is not COCO's captions ({error!r}). {EXPECTED['coco']}") from None
        splits[split] = list(samples.values())
    return splits


def _captions(files: Mapping[str, Blob]) -> list[str]:
    if ".txt" in files:
        return [_text(files[".txt"].read(LARGEST["text"]))]
    if ".json" not in files:
        return []
    try:
        caption = json.loads(_text(files[".json"].read(LARGEST["text"])))["caption"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError("its .json is not an object with a caption") from None
    if caption is not None and not isinstance(caption, str):
        raise ValueError(f"its caption is a {type(caption).__name__}")
    return [] if caption is None else [caption]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("its caption is not UTF-8") from None


def _class_of(sample: Sample) -> str | None:
    blob = sample.files.get(".cls")
    return None if blob is None else blob.read(LARGEST["text"]).decode("utf-8", "replace").strip()
