"""Reads a page back as a browser would: tags that nest, references, text."""

import html.parser
import re

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(html.parser.HTMLParser):
  """Collects text, ids and references; fails where tags do not nest."""

  def __init__(self, text):
    super().__init__()
    self.stack, self.words, self.ids, self.references = [], [], [], []
    self.feed(text)
    self.close()
    assert not self.stack, f"never closed: {self.stack}"

  def handle_starttag(self, tag, attrs):
    if tag not in VOID:
      self.stack.append(tag)
    self._attributes(attrs)

  def handle_startendtag(self, tag, attrs):
    self._attributes(attrs)

  def handle_endtag(self, tag):
    assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-1:]}"
    self.stack.pop()

  def handle_data(self, data):
    self.words.append(data)

  def _attributes(self, attrs):
    for name, value in attrs:
      if name == "id":
        self.ids.append(value)
      if name in ("src", "href", "xlink:href", "data", "srcset"):
        self.references.append(value)
      self.references += re.findall(r"url\(([^)]*)\)", value or "")

  @property
  def text(self):
    return " ".join(" ".join(self.words).split())


def assert_self_contained(page: str) -> None:
  """Nothing is loaded: references are to the page's own ids, pictures are in it."""
  assert not re.search(r"https?:|//[a-z]|@import|<script|<link", re.sub(r"base64,[^\"]*", "", page))
  read = Reader(page)
  for reference in read.references:
    inside = reference.startswith("#") and reference[1:] in read.ids
    assert inside or reference.startswith("data:image/png;base64,"), reference
  assert len(read.ids) == len(set(read.ids))
