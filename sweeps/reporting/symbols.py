"""Plotly's symbols as small SVG pictures, for legends that the page draws itself."""

from __future__ import annotations

from sweeps.reporting.style import escaped

# Centred on a canvas of 20 by 20.
_SHAPES = {
    "circle": '<circle cx="10" cy="10" r="8"/>',
    "square": '<rect x="2.5" y="2.5" width="15" height="15"/>',
    "diamond": '<path d="M10 0 20 10 10 20 0 10z"/>',
    "triangle-up": '<path d="M10 1 19.5 17.5H.5z"/>',
    "triangle-down": '<path d="M10 19 .5 2.5h19z"/>',
    "triangle-left": '<path d="M1 10 17.5.5v19z"/>',
    "triangle-right": '<path d="M19 10 2.5.5v19z"/>',
    "cross": '<path d="M7 1h6v6h6v6h-6v6H7v-6H1V7h6z"/>',
    "x": '<path d="M5 1l5 5 5-5 4 4-5 5 5 5-4 4-5-5-5 5-4-4 5-5-5-5z"/>',
    "pentagon": '<path d="M10 1 19 7.8 15.5 18.5h-11L1 7.8z"/>',
    "hexagram": '<path d="M10 0l3 5h6l-3 5 3 5h-6l-3 5-3-5H1l3-5-3-5h6z"/>',
    "star": '<path d="M10 0l2.6 7H20l-6 4.4 2.3 7.6L10 14.500l-6.300 4.500L6 11.400 0 7h7.400z"/>',
}


def symbol(name: str, colour: str = "currentColor", *, hollow: bool = False) -> str:
    """Return a symbol as SVG, hidden from screen readers: the words beside it say the same.

    Args:
        name: plotly's name, without `-open`.
        colour: CSS colour or variable.
        hollow: outline only.
    """
    fill = "none" if hollow else escaped(colour)
    return (
        f'<svg viewBox="0 0 20 20" aria-hidden="true" style="fill:{fill};'
        f'stroke:{escaped(colour)};stroke-width:2">{_SHAPES[name]}</svg>'
    )
