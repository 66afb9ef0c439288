"""Files of reviews: the same table in every format, and files that are damaged in many ways."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence

import openpyxl
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

Row = tuple[str | None, int | None, str]  # text, rating, month
NAMES = ("review", "rating", "Month")
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": lambda data: zipped({"reviews.csv": data}),
}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def delimited(rows: Sequence[Row], delimiter: str, encoding: str = "utf-8") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([NAMES, *rows])
    return out.getvalue().encode(encoding)


def workbook(rows: Sequence[Row]) -> bytes:
    book = openpyxl.Workbook(write_only=False)
    sheet = book.active
    assert sheet is not None
    for at, row in enumerate([NAMES, *rows], 1):
        for place, cell in enumerate(row, 1):
            if cell is not None and cell != "":
                written = sheet.cell(at, place, cell)
                if isinstance(cell, str):
                    written.data_type = "s"  # or what begins with = would be a formula
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def parquet_of(**columns: object) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table(columns), out)
    return out.getvalue()


def every_format(rows: Sequence[Row]) -> dict[str, bytes]:
    """Return the table as name → bytes of each format."""
    objects = [dict(zip(NAMES, row, strict=True)) for row in rows]
    plain = delimited(rows, ",")
    files = {f"comma.csv{ending}": pack(plain) for ending, pack in PACKINGS.items()}
    for name, delimiter in (("semicolon.csv", ";"), ("tab.txt", "\t"), ("pipe.tsv", "|")):
        files[name] = delimited(rows, delimiter)
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        files[f"{encoding}.csv"] = delimited(rows, ",", encoding)
    files["lines.jsonl"] = "\n".join(map(json.dumps, objects)).encode()
    files["array.json"] = json.dumps(objects, ensure_ascii=False, indent=1).encode()
    files["renamed.csv"] = workbook(rows)
    frame = pd.DataFrame(objects, columns=list(NAMES)).astype({"rating": "Int64"})
    out = io.BytesIO()
    frame.set_index("review").to_parquet(out)  # pandas keeps the name of the index apart
    files["index.parquet"] = out.getvalue()
    return files


def sheet(rows: bytes, begin: bytes = b"") -> bytes:
    """A workbook of which the sheet's rows are these bytes of XML."""
    made = zipfile.ZipFile(io.BytesIO(workbook([("fine", 5, "Feb 2021")])))
    files = {name: made.read(name) for name in made.namelist()}
    main = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    files["xl/worksheets/sheet1.xml"] = (
        b'<?xml version="1.0"?>%s<worksheet xmlns="%s"><sheetData>%s</sheetData></worksheet>'
        % (begin, main, rows)
    )
    return zipped(files)


def made_to_hurt() -> dict[str, bytes]:
    """Files that are small and would cost a careless reader its memory, its time or its life."""
    header = b'<row r="1"><c r="A1" t="inlineStr"><is><t>review</t></is></c></row>'
    laughs = b'<!DOCTYPE x [<!ENTITY a0 "ha">%s]>' % b"".join(
        b'<!ENTITY a%d "%s">' % (at, b"&a%d;" % (at - 1) * 10) for at in range(1, 10)
    )
    many = b"".join(b'<row><c r="XFD%d"><v>1</v></c></row>' % at for at in range(2, 3_000))
    return {
        "far.xlsx": sheet(header + b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
        "farther.xlsx": sheet(header + b'<row r="99999999999"><c r="A99999999999"/></row>'),
        "laughs.xlsx": sheet(b'<row><c t="inlineStr"><is><t>&a9;</t></is></c></row>', laughs),
        "deep.xlsx": sheet(b"<a>" * 100_000),
        "wide.xlsx": sheet(many),
        "strings.xlsx": sheet(b'<row><c t="s"><v>999999</v></c></row>'),
        "deep.json": b"[" * 500_000,
        "deep.jsonl": b'{"review":' * 100_000,
        "keys.jsonl": b"\n".join(b'{"%d":1}' % at for at in range(20_000)),
        "wide.csv": b"review," * 300_000 + b"\nfine\n",
        "names.csv": b",".join(b"column %d" % at for at in range(15_000)) + b"\n1\n",
        "quotes.csv": b"review,rating\n" + b'"\n' * 100_000,
        "cells.csv": b"review,rating\n" + b'a,"\n' * 60_000,
        "one_line.csv": b"review,rating\n" + b"x" * 2_000_000,
        "nothing.csv.gz": gzip.compress(b"\n" * 5_000_000),
        "many.zip": zipped({f"{at}.csv": b"review,rating\n" for at in range(500)}),
        "again.gz": gzip.compress(gzip.compress(delimited([("fine", 5, "")] * 9, ","))),
        "list.parquet": parquet_of(review=[["fine"]], rating=[5]),
        "struct.parquet": parquet_of(review=[{"a": "fine"}], rating=[5]),
        "numbers.parquet": parquet_of(review=[1, 2], rating=[5, 4]),
        "when.parquet": parquet_of(review=["fine"], rating=pa.array([5], pa.timestamp("s", "UTC"))),
        "old.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "latin.csv": "review,rating\ncafé,5\n".encode("latin-1"),
        "latin.json": '[{"review": "café", "rating": 5}]'.encode("latin-1"),
        "nul.csv": "review,rating\nfine,5\n".encode("utf-16-le"),
        "half.csv": "review,rating\nfine,5\n".encode("utf-16")[:-1],
        "two.csv": b"review,comment,rating\nfine,fine,5\n",
        "twice.csv": b"review,Review,rating\nfine,fine,5\n",
        "words.csv": b"review,rating\nfine,my neighbour Mary said so\n",
        "secret.json": b'{"password": "of Mary"}',
        "headless.csv": b"My neighbour Mary said it broke,5\nfine,4\n",
        "numbers.json": b"[1, 2, 3]",
        "empty.json": b"[]",
        "picture.csv": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
        "empty.csv": b"",
        "blank.csv": b"\n\r\n\r",
        "header.csv": b"review,rating\n",
        "encrypted.zip": _encrypted(),
    }


def _encrypted() -> bytes:
    data = bytearray(zipped({"reviews.csv": b"review,rating\nfine,5\n"}))
    for magic, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + flag] |= 1
    return bytes(data)


def damaged(rows: Sequence[Row], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield files of every format with bits flipped, cut, doubled, mixed up or of another name."""
    rng = random.Random(seed)
    whole = every_format(rows)
    names = list(whole)
    for at in range(count):
        name = names[at % len(names)]
        data = bytearray(whole[name])
        how = rng.randrange(5)
        if how == 0:
            data = data[: rng.randrange(len(data))]
        elif how == 1:
            for _ in range(rng.choice([1, 1, 9, 99])):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif how == 2:
            begin = rng.randrange(len(data))
            data[begin : begin + rng.randrange(200)] = rng.randbytes(rng.randrange(200))
        elif how == 3:
            begin = rng.randrange(len(data))
            data = data[begin:] + data[:begin]
        else:
            other = whole[rng.choice(names)]
            data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]
        yield f"{at}{rng.choice(names)[-9:]}", bytes(data)
