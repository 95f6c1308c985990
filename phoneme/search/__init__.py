"""Hyper-parameter search with optuna: the space, who samples it, and the study in its storage."""

from phoneme.search.rows import Row, best_rows, flat, rows_of, shown, table
from phoneme.search.sampling import make_pruner, make_sampler
from phoneme.search.space import Space, at_the_edge, corners, described, overrides_of, read_space, suggest
from phoneme.search.study import Definition, explained, mark_surplus, open_study, repeat, shown_url, started

__all__ = [
    "Definition",
    "Row",
    "Space",
    "at_the_edge",
    "best_rows",
    "corners",
    "described",
    "explained",
    "flat",
    "make_pruner",
    "make_sampler",
    "mark_surplus",
    "open_study",
    "overrides_of",
    "read_space",
    "repeat",
    "rows_of",
    "shown",
    "shown_url",
    "started",
    "suggest",
    "table",
]
