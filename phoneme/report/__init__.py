"""Pages in plain words from numbers; nothing is measured here."""

from phoneme.report.critical_point import page, summary_lines, write_page

__all__ = ["page", "summary_lines", "write_page"]
