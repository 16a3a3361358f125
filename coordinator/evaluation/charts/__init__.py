"""The report's charts, drawn as inline SVG: no script, no font, no picture, no request.

Places along an axis are percentages and nothing is scaled, so text keeps its size on any width of page. Colours come
from the page's style sheet, by class, so that they follow light, dark and print; every mark also differs by shape.
"""
