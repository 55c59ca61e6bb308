"""Colours, and how the screen is laid out."""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

BRIGHT: Final = "#e6edf3"
PLAIN: Final = "#b7c3d0"
DIM: Final = "#6b7a8c"
TRACK: Final = "#233040"
"""Behind bars."""
ACCENT: Final = "#4fd1c5"
WARM: Final = "#f2b866"
BAD: Final = "#f47174"
GOOD: Final = "#8fd694"
LINES: Final = ("#4fd1c5", "#7aa2f7", "#f2b866", "#bb9af7", "#8fd694", "#f78fb3", "#6fc3df", "#d7ba7d")
"""Of series, one after the other."""
VERDICTS: Final = {"accepted": ACCENT, "denied": BAD, "observed": WARM}

THEME: Final = Theme(
    name="serai", primary=ACCENT, secondary="#7aa2f7", accent=ACCENT, warning=WARM, error=BAD, success=GOOD,
    foreground=PLAIN, background="#0c1117", surface="#0c1117", panel="#141b23", dark=True,
    variables={"footer-key-foreground": ACCENT, "footer-background": "#141b23", "footer-description-foreground": PLAIN},
)  # fmt: skip

CSS: Final = """
Screen { layout: vertical; background: $background; }
#head { height: 2; background: $panel; padding: 0 1; }
#trouble { display: none; height: auto; max-height: 4; background: $error 25%; color: $text; padding: 0 1; }
#trouble.shown { display: block; }
#upper { height: 1fr; }
#lower { height: 11; }
#records, #details { display: none; }
.pane { border: round #263341; border-title-color: #8b9aab; border-title-style: bold; border-subtitle-color: #6b7a8c; padding: 0 1; }
.pane:focus { border: round $primary; border-title-color: $primary; }
#lines { width: 3fr; }
#graphs { width: 2fr; }
#details { height: 11; text-wrap: nowrap; text-overflow: ellipsis; }
.records #records, .records #details { display: block; }
.records #upper, .records #lower { display: none; }
#records { height: 1fr; }
.low #lower { height: 8; }
.low #details { height: 9; }
#entry { display: none; height: auto; background: $panel; padding: 0 1; }
#entry.shown { display: block; }
#entry Input { border: none; height: 1; padding: 0; background: $panel; }
#wrong { display: none; height: auto; color: $error; }
#wrong.shown { display: block; }
Listing { scrollbar-size-vertical: 1; scrollbar-color: #2b3947; scrollbar-background: $background; scrollbar-color-hover: $primary; overflow-x: hidden; }
Listing > .listing--cursor { background: #1b2a38; }
Footer { background: $panel; }
Help { align: center middle; background: $background 60%; }
Help > Static { width: 74; height: auto; border: round $primary; background: $panel; padding: 1 2; border-title-color: $primary; }
"""
