"""Every model that the emulator plays: those of Google's, and the one that an endpoint has."""

from gateway.emulator.pages.lyria2 import Lyria2Page
from gateway.emulator.pages.lyria3 import Lyria3Page
from gateway.emulator.pages.musicgen import MusicGenPage
from gateway.emulator.pages.page import Page

#: By the name that stands in a ``:predict`` path.
PUBLISHED: dict[str, Page] = {page.name: page for page in (Lyria2Page(),)}
#: By the name that stands in the body of an interaction.
INTERACTIVE: dict[str, Page] = {
    page.name: page for page in (Lyria3Page("lyria-3-clip-preview"), Lyria3Page("lyria-3-pro-preview"))
}
ENDPOINT: Page = MusicGenPage()

NAMES = (*PUBLISHED, *INTERACTIVE, ENDPOINT.name)
