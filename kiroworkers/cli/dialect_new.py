"""
Draft a dialect from a recording.
"""

from __future__ import annotations

import sys

from kiroworkers.cli.dialect_files import load_recording, print_clean
from kiroworkers.conversations.drafts.draft import CannotDraft, draft_dialect
from kiroworkers.conversations.terminal.recording import BadRecording


def new(recording_file: str, output: str | None) -> None:
    """
    Write a dialect for the program that was recorded.

    Args:
        recording_file: The path of a recording made by `record`.
        output: The path of the dialect file, which must not exist yet; None to print the dialect.

    Raises:
        BadRecording: If no dialect can be drafted from the recording.
        OSError: If a file cannot be read or written.
    """
    recording = load_recording(recording_file)
    if recording.size is None:
        raise BadRecording(f"{recording_file}: does not say how large the terminal was")
    try:
        draft = draft_dialect(recording.chunks, recording.size, recording.command)
    except CannotDraft as error:
        raise BadRecording(f"{recording_file}: {error}") from None
    if output is None:
        print_clean(draft.text, file=sys.stdout)
    else:
        with open(output, "x", encoding="utf-8") as file:
            file.write(draft.text)
    found = f"finds {draft.answers} of {draft.questions} answers in {recording_file}"
    print_clean(f"{draft.dialect.name}: {found}; see the values marked CHECK", file=sys.stderr)
