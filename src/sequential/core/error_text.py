"""What an exception says, as it is kept with a run."""

from collections.abc import Iterator


def text_of(error: BaseException) -> str:
    """The text of any exception, its notes, and of a group what each of its members says.

    It can always be stored: what is no valid text is replaced, an exception whose own text cannot
    be had says so.
    """
    try:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    except Exception:  # its own text may be what is broken
        text = "(the exception has no text)"
    told = "; ".join(f"{type(one).__name__}: {text_of(one)}" for one in leaves(error))
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    text = "\n".join([": ".join(filter(None, [text, told])), *notes])
    return text.encode("utf-8", "replace").decode()


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions of a group, those of groups within it one by one; none for any other."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one) if isinstance(one, BaseExceptionGroup) else (one,)
