"""slicer.i18n: there are no translations here, so a text is its own."""

from __future__ import annotations


def translate(context: str, text: str) -> str:
    """Return the text in the application's language, which is the text."""
    return text


def tr(text: str) -> str:
    """Return the text of the calling file's context in the application's language."""
    if not isinstance(text, str):
        raise TypeError(f"tr() takes a text, not {type(text).__name__}")
    return text


def getContext(source: str) -> str:
    """Return the context of a file's texts: the file's name without .py, after its package's name if it is in one."""
    from pathlib import Path

    path = Path(source)
    return f"{path.parent.name}.{path.stem}" if (path.parent / "__init__.py").is_file() else path.stem
