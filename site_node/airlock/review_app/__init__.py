"""The steward's review page: a small web application that only this hospital's stewards see.

It belongs to the private half: it shows real images beside samples, reads no network but the requests of a signed-in
browser, and sends nothing anywhere else. It loads no script, font or picture from another place, and works without
script.
"""
