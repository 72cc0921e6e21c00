"""Names that would run, or turn what stands beside them, where they were taken for HTML."""

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "\"'`&quot;${alert(1)}$data",
    "line\nbreak\u2028and\u2029others",
    "\u202eright to left\u202c",
    "עברית",
    "javascript:alert(1)",
]
