"""Manifests, as bytes of YAML: read or refused by name, into plain values, in time that only their size makes grow."""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from byok_api.errors import Refusal
from byok_api.manifests import DEPTH_LIMIT, NUMBER_LIMIT, PART_LIMIT, Document, ManifestError, load_documents
from byok_api.objects import Object, parse_object
from byok_api.resolution import resolve
from byok_api.signingrecipe import SigningRecipe
from fuzz.target import Target, bounded, demand, seconds_of
from fuzz.values import changed

_ROOT = Path(__file__).parents[1]
_FOLDERS = (_ROOT / "examples", _ROOT / "charts" / "byok-operator" / "presets")
_SIZE_LIMIT = 16 * 1024
_TIMES = 50


@cache
def examples() -> tuple[bytes, ...]:
    """Read what this project ships."""
    return tuple(path.read_bytes() for folder in _FOLDERS for path in sorted(folder.glob("*.yaml")))


@cache
def typical() -> float:
    """Measure what a byte of an example takes, in seconds."""
    return seconds_of(lambda: [read(data) for data in examples()]) / sum(map(len, examples()))


def try_input(data: bytes) -> None:
    """Read a file, and all that is in it."""
    # What takes time without bytes, such as making up a message, counts as a kilobyte.
    allowed = typical() * (1024 + len(data))
    documents, refusals = bounded(lambda: read(data), typical=allowed, times=_TIMES)
    for document in documents:
        _check_plain(document)
    for refusal in refusals:
        demand(refusal.message.isprintable())
        demand(refusal.message.startswith("fuzz.yaml"))


def read(data: bytes) -> tuple[list[Document], list[Refusal]]:
    """Read documents, objects and recipes as the signer does."""
    try:
        documents = load_documents(data, "fuzz.yaml")
    except ManifestError as refusal:
        return [], [refusal]
    refusals: list[Refusal] = []
    for document in documents:
        try:
            _use(parse_object(document, "fuzz.yaml", namespace="media"))
        except ManifestError as refusal:
            demand(all(finding.rule and finding.remedy for finding in refusal.findings))
            refusals.append(refusal)
    return documents, refusals


def _use(found: Object) -> None:
    if isinstance(found, SigningRecipe):
        with suppress(Refusal):
            effective = resolve(found, lambda _: None, presets_namespace="presets", managed_key=None)
            demand(effective.hash)
    found.model_dump_json()


def _check_plain(document: Document) -> None:
    json.dumps(document, allow_nan=False)
    left: list[tuple[Any, int]] = [(dict(document), 1)]
    parts = 0
    while left:
        value, depth = left.pop()
        parts += 1
        demand(depth <= DEPTH_LIMIT + 1)
        demand(type(value) in (dict, list, str, int, float, bool, type(None)))
        if isinstance(value, dict):
            demand(all(type(key) is str for key in value))
            left += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list):
            left += [(part, depth + 1) for part in value]
        elif isinstance(value, int | float):
            demand(abs(value) < NUMBER_LIMIT or (isinstance(value, float) and math.isfinite(value)))
    demand(parts <= PART_LIMIT)


def mutate(data: bytes, random: Random) -> bytes:
    """Change what a file says, and write it as YAML in one of its styles, or as JSON."""
    try:
        value = changed([dict(document) for document in load_documents(data, "fuzz.yaml")], random, binary=False)
        if random.random() < 0.2:  # noqa: PLR2004 - one in five
            return json.dumps(value[0] if isinstance(value, list) and value else value).encode()
        style = random.choice((None, '"', "'", "|", ">"))
        documents = value if isinstance(value, list) else [value]
        return yaml.safe_dump_all(
            documents, default_style=style, default_flow_style=random.choice((True, False, None)), allow_unicode=True
        ).encode()
    except (Refusal, yaml.YAMLError, ValueError):
        return random.choice(examples()) + data[:200]


def seeds() -> Iterator[bytes]:
    """Begin with what this project ships, and what others have broken YAML readers with."""
    yield from examples()
    head = b"apiVersion: byok.dev/v1alpha1\nkind: SigningRecipe\nmetadata: {name: a, namespace: media}\nspec:\n"
    yield head + b"  version: 1\n  extends: a@1\n  c2pa: {assertions: [creator], defaults: {creator: [x]}}\n"
    yield b"a: &a [x,x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (n, n, n - 1, n - 1) for n in range(98, 122))
    yield b"a: &a {b: *a}\n"
    yield b"<<: {a: 1}\n"
    yield b"[" * 2000
    yield b"{a: " * 500
    yield b"- " * 1000
    yield b"a: !!python/object/apply:os.system [id]\n"
    yield b"a: !!binary AAAA\nb: !!set {x}\nc: 2026-01-01\nd: 0o17\ne: 1:20\nf: .inf\ng: 1_000\n"
    yield b"? [a]\n: b\n"
    yield from (
        b"1: a\n",
        b"true: a\n",
        b"~: a\n",
        b"1.5: a\n",
        b"{a: {on: b, 0x1f: c}}\n",
        b"a: 1.0e+999\nb: -.5e-999\n",
    )
    yield b"--- a\n" * 1500
    yield b"a: " + b"9" * 5000
    yield b"a: 1e" + b"9" * 300
    yield b"\xef\xbb\xbfa: \xed\xa0\x80\n"
    yield b"%YAML 1.2\n%TAG ! x:\n---\na: !y z\n"
    yield b'a: "\\ud800\\x00\\U0010ffff"\n'


TARGET = Target("manifests", try_input, seeds, mutate, _SIZE_LIMIT)
