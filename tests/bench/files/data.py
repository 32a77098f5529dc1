# SPDX-License-Identifier: BSD-2-Clause
"""Dictionaries, strings, JSON, regular expressions, big integers, sorting."""
import hashlib
import json
import re
import sys

words = re.compile(r"(\w+?)(\d+)-([aeiou]+)")
out = hashlib.sha256()
for turn in range(int(sys.argv[1])):
    table = {f"key{i * 7 % 1000}": [i, str(i * i), {"n": i / 4}] for i in range(1500)}
    text = json.dumps(table, sort_keys=True)
    back = json.loads(text)
    out.update(text.encode())
    s = " ".join(f"item{i}-{'aeiou'[i % 5] * (i % 3 + 1)}" for i in range(1500))
    out.update(repr(words.sub(r"\3:\1", s)).encode())
    out.update(str(sum(len(m) for m in words.findall(s))).encode())
    n = 3 ** (1000 + turn)
    out.update(str(n).encode())
    rows = sorted(back.items(), key=lambda kv: (kv[1][0] % 17, kv[0]))
    out.update("".join(k for k, _ in rows[:200]).encode())
    counts = {}
    for w in s.split("-"):
        counts[w] = counts.get(w, 0) + len(w)
    out.update(str(sum(counts.values())).encode())
print(out.hexdigest())
