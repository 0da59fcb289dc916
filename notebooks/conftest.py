"""`pytest --nbmake notebooks` runs the chapters and the solutions. The Korean chapters have the code of the English
ones, cell by cell (`tests/test_korean.py`), so running them would only run everything twice.
"""

collect_ignore_glob = ["ko/*"]
