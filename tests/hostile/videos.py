"""Video files and the lists that name them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.entry import Entry
from tests.hostile.mutations import cuts, mutations, noise
from tests.hostile.trees import Spoil, clip, picture, prepare, put, strange

FILE = "train/run/a_000000_000010.mp4"
HEAD = "label,youtube_id,time_start,time_end,split\n"


def files() -> Iterator[tuple[str, bytes, bool]]:
    yield from ((f"a video {how}", data, False) for how, data in cuts(clip()))
    yield from ((f"a video with {how}", data, True) for how, data in noise(clip()))
    yield "a playlist", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", False
    yield "a list to join", b"ffconcat version 1.0\nfile b_000000_000010.mp4\n", False
    yield (
        "a session of a network",
        b"v=0\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        False,
    )
    yield "a DASH manifest", b'<?xml version="1.0"?><MPD><Period><BaseURL>/etc/passwd</BaseURL></Period></MPD>', False
    yield "raw frames", b"YUV4MPEG2 W2 H2 F25:1 Ip A0:0 C420jpeg\n" + (b"FRAME\n" + bytes(6)) * 8, False
    yield "a script of AviSynth", b'AviSource("/etc/passwd")\n', False
    yield "subtitles", b"1\n00:00:00,000 --> 00:00:10,000\nx\n", False
    for kind in ("GIF", "JPEG", "PNG", "BMP"):
        yield f"a picture as {kind}", picture(kind), False
    yield "nothing", b"", False
    yield "zeros", bytes(10_000), False
    yield "a codec that nobody knows", clip().replace(b"avc1", b"zzzz"), False
    yield "a page of HTML", b"<html>gone</html>", False
    large = clip().replace(b"avc1" + bytes(6), b"avc1" + bytes(6))
    place = large.index(b"avc1") + 28
    yield "frames of 65535 x 65535", large[:place] + b"\xff" * 4 + large[place + 4 :], True


def lists() -> Iterator[tuple[str, bytes]]:
    yield "nothing but a blank", b"\n"
    yield "a head alone", HEAD.encode()
    yield "other columns", b"a,b,c\n1,2,3\n"
    yield "a short row", f"{HEAD}run,a\n".encode()
    yield "a time of a word", f"{HEAD}run,a,zero,10,x\n".encode()
    yield "a time without end", f"{HEAD}run,a,inf,10,x\n".encode()
    yield "a time that is no number", f"{HEAD}run,a,nan,10,x\n".encode()
    yield "a field of 200 kB", f"{HEAD}{'r' * 200_000},a,0,10,x\n".encode()
    yield "no text", bytes(range(128, 256))
    yield "UTF-16", HEAD.encode("utf-16")
    yield "zeros", bytes(100)
    for name in ("../../outside", "/etc", "a\\nb"):
        yield f"a video called {name!r}", f'{HEAD}run,"{name}",0,10,x\n'.encode()
    yield "a class that leads out", f"{HEAD}../../../etc,a,0,10,x\n".encode()


def with_content(path: str, data: bytes) -> Spoil:
    return lambda root: put(root / path, data)


def ssv2(content: Any) -> Spoil:
    return with_content("labels/train.json", content if isinstance(content, bytes) else json.dumps(content).encode())


def large(root: Path) -> None:
    with open(root / FILE, "r+b") as file:
        file.truncate(2**40)


ROWS = [{"id": "1", "template": "Push [it]"}]
ENTRIES = [
    *(
        Entry(name=f"video: {name}", act=prepare("kinetics", with_content(FILE, data)), file=FILE[:-4], harmless=free)
        for name, data, free in files()
    ),
    *(
        Entry(name=f"video: it is {name}", act=prepare("kinetics", spoil), file=FILE[:-4])
        for name, spoil in strange(FILE)
    ),
    Entry(name="video: a sparse file of 1 TiB", act=prepare("kinetics", large), file=FILE[:-4]),
    *(
        Entry(name=f"video: a list of {name}", act=prepare("kinetics", with_content("train.csv", data)), file="train")
        for name, data in lists()
    ),
    *(
        Entry(name=f"video: the list is {name}", act=prepare("kinetics", spoil), file="train.csv")
        for name, spoil in strange("train.csv")
    ),
    *(
        Entry(name=f"SSv2: {name}", act=prepare("ssv2", ssv2(content)), file="", harmless=name.startswith("0.template"))
        for name, content in mutations(ROWS)
    ),
    *(
        Entry(name=f"SSv2: {how}", act=prepare("ssv2", ssv2(data)), file="train.json")
        for how, data in cuts(json.dumps(ROWS).encode())
    ),
    Entry(name="SSv2: lists without end", act=prepare("ssv2", ssv2(b"[" * 200_000)), file="train.json"),
    Entry(name="SSv2: a path that leads out", act=prepare("ssv2", ssv2([{"id": "../../outside", "template": "x"}]))),
]
