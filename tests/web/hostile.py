"""Texts that would be scripts if a page took them for more than text."""

from __future__ import annotations

from tests.web.driving import Page

SCRIPTS = [
    "<script>owned()</script>",
    "<img src=x onerror=owned()>",
    "<svg onload=owned()>",
    "<svg><script>owned()</script></svg>",
    "<iframe srcdoc='<script>parent.owned()</script>'>",
    "<a href=javascript:owned()>x</a>",
    "<body onload=owned()>",
    "<details open ontoggle=owned()>",
    "<input autofocus onfocus=owned()>",
    "<video><source onerror=owned()>",
    "<math><mi xlink:href=javascript:owned()>x",
    "<object data=javascript:owned()>",
    "<embed src=javascript:owned()>",
    "<form action=javascript:owned()><button>x",
    "<marquee onstart=owned()>",
    "<style>@import 'javascript:owned()'</style>",
    "<link rel=stylesheet href=javascript:owned()>",
    "<meta http-equiv=refresh content='0;url=javascript:owned()'>",
    "<base href=javascript:owned()//>",
    "<template><script>owned()</script></template>",
    "</script><script>owned()</script>",
    "</style><script>owned()</script>",
    "</title><script>owned()</script>",
    "--><script>owned()</script>",
    "]]><script>owned()</script>",
    "{{constructor.constructor('owned()')()}}",
    "${owned()}",
    "{@html '<img src=x onerror=owned()>'}",
    "javascript:owned()",
    "data:text/html,<script>owned()</script>",
    "&lt;script&gt;owned()&lt;/script&gt;",
    "\u003cscript\u003eowned()\u003c/script\u003e",
    "<scr<script>ipt>owned()</script>",
    "<img src=`x` onerror=owned()>",
]


HOSTILE = [before + each + after for each in SCRIPTS for before, after in (("", ""), ('x" ', ""), ("</td>", "<td>"))]
"""Each in three surroundings: about a hundred."""

TRAP = "window.owned = () => { window.isOwned = true; }; window.alert = window.owned;"
"""What they would call."""


def is_untouched(page: Page) -> bool:
    """Whether nothing was called, and no text became an element."""
    assert page.evaluate("window.isOwned") is None
    return (
        page.evaluate("document.querySelectorAll('img[src=x], script:not([src]), iframe, object, embed').length") == 0
    )
