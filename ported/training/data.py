"""From --data and --val-data to windows of tokens to train on and to validate with."""

from collections.abc import Callable
from pathlib import Path

from ported.training import text
from ported.training.config import Config
from ported.training.errors import BadInput
from ported.training.tokens import VOCABULARY, Tokens, find, is_token_file


def open_data(config: Config, say: Callable[[str], None] = print,
              vocabulary: int = VOCABULARY) -> tuple[Tokens, Tokens]:
    """Training and validation tokens. `say` hears of slow work (tokenising a new text).

    Text without --val-data is split; token files without it are refused, since their maker knows
    best what to hold out.
    """
    if not config.data:
        folder = text.kept_tokens([text.default_file()], config.val_fraction, say,
                                  extract=text.default_text)
        train, val = [folder / "train.bin"], [folder / "val.bin"]
    else:
        held_out = 0 if config.val_data else config.val_fraction
        train, val = _given(config.data, "--data", held_out, say)
    if config.val_data:
        val, _ = _given(config.val_data, "--val-data", 0, say)
    if not val:
        raise BadInput(f"--data {config.data}", "token files and no --val-data",
                       "validation tokens beside the training tokens",
                       "python train.py --data TRAIN.bin --val-data VAL.bin")
    T = config.sequence_length
    return Tokens(train, T, vocabulary), Tokens(val, T, vocabulary)


def _given(pattern: str, flag: str, held_out: float,
           say: Callable[[str], None]) -> tuple[list[Path], list[Path]]:
    paths = find(pattern, flag)
    ready = [path for path in paths if is_token_file(path)]
    if len(ready) == len(paths):
        return paths, []
    if ready:
        others = ", ".join(path.name for path in paths if path not in ready)
        raise BadInput(f"{flag} {pattern}", f"token files, and among them {others}",
                       "token files alone or text alone", f"a narrower glob for {flag}")
    folder = text.kept_tokens(paths, held_out, say)
    return [folder / "train.bin"], [folder / "val.bin"] if held_out else []
