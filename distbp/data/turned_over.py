"""Matrices that may have their axes reversed: files of programs that count the first axis fastest."""

from __future__ import annotations

from distbp.data.layout import Layout


def turned_over(layout: Layout) -> list[str]:
    """A sentence where x and y may have their axes reversed: both are matrices, wider than they have rows."""
    x, y = layout.parts[0].x, layout.parts[0].y
    if len(x) != 1 or len(y) != 1 or not (x[0].is_direct and y[0].is_direct):
        return []
    if len(x[0].shape) != 1 or x[0].shape != y[0].shape or x[0].width <= max(layout.rows, 1):
        return []
    return [
        f"{x[0].name} and {y[0].name} have {layout.rows} rows of {x[0].width} numbers: files of R, MATLAB and Julia "
        f"have their axes reversed; if this is one, write --x '{layout.x_name}[:, samples]' --y "
        f"'{layout.y_name}[:, samples]'"
    ]
