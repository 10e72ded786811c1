"""What is measured on a finished model. One file is one family; each lists its `METRICS`.

Keys are `<role>[/<suite>][/<slice>.<value>]/<metric>` or `<family>/<metric>`. Every metric declares
its direction. No module here imports torch at the top, so that listing metrics starts quickly.
"""
