#!/bin/sh
# Prints the linker flag for zstd when this system's libelf.a needs it, else nothing (a space: gyp wants a value).
archive=$("${CC:-cc}" -print-file-name=libelf.a)
if nm "$archive" 2>/dev/null | grep -q ' U ZSTD_'; then echo '-l:libzstd.a'; else echo '-lc'; fi
