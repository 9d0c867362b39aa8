"""From files to passages: extract, chunk, ingest, retrieve, fuse, cite."""
