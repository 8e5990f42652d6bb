"""The page at ``/``: what this is, how to call it, and, where it is so, that an emulator makes the music."""

from html import escape

from starlette.requests import Request
from starlette.responses import Response

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Music gateway</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 8vh auto; padding: 0 1.25rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.2; }}
pre {{ padding: 1rem; overflow-x: auto; border: 1px solid #8886; border-radius: .5rem; font-size: .9rem; }}
.notice {{ padding: .75rem 1rem; border-left: .25rem solid #c60; background: #c601; }}
</style>
<main>
<h1>Music gateway</h1>
<p>Post a prompt with an API key, get music back.</p>
{notice}
<pre><code>curl -X POST "{url}/api/music_generate" \\
  -H "X-Api-Key: YOUR_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{"prompt": "uplifting electronic track with soft piano and warm pads"}}'</code></pre>
<p><a href="/dashboard">Dashboard</a>: keys, usage, and a place to try it.
<a href="/docs">Documentation</a>: guides and the whole interface.</p>
</main>
</html>
"""
_NOTICE = (
    '<p class="notice"><strong>Emulator.</strong> No Google project is configured: '
    "the music comes from a built-in emulator, not from a Google model.</p>"
)


class FrontPage:
    """One page, made once."""

    def __init__(self, *, public_url: str, emulated: bool) -> None:
        page = _PAGE.format(url=escape(public_url), notice=_NOTICE if emulated else "")
        self._page = page.encode()

    async def show(self, request: Request) -> Response:  # noqa: ARG002 - the router calls it so
        headers = {
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
            "Referrer-Policy": "no-referrer",
        }
        return Response(self._page, headers=headers, media_type="text/html")
