#!/usr/bin/env python3
"""Checks that the links of a built book lead to its files and anchors: scripts/docs/book-links.py DIR"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif name in ("id", "name"):
                self.anchors.add(value)


def main():
    root = Path(sys.argv[1]).resolve()
    pages = {path: Page(path.read_text()) for path in sorted(root.rglob("*.html"))}
    wrong, count = [], 0
    for path, page in pages.items():
        # 404.html is shown in place of any page, so its links are relative to the root of the server.
        for link in page.links if path.name != "404.html" else ():
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            count += 1
            to = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not to.exists() or (url.fragment and to in pages and url.fragment not in pages[to].anchors):
                wrong.append(f"{path.relative_to(root)}: {link} leads nowhere")
    print("\n".join(wrong) or f"book: {len(pages)} pages, {count} links")
    return 1 if wrong or not pages else 0


sys.exit(main())
