# SPDX-License-Identifier: BSD-2-Clause
"""Objects, method calls, closures, generators, exceptions: what plain Python programs do."""
import sys


class Vec:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x = x
        self.y = y

    def __add__(self, o):
        return Vec(self.x + o.x, self.y + o.y)

    def dot(self, o):
        return self.x * o.x + self.y * o.y


class Node:
    def __init__(self, key):
        self.key, self.left, self.right = key, None, None


def insert(root, key):
    while True:
        if key < root.key:
            if root.left is None:
                root.left = Node(key)
                return
            root = root.left
        elif key > root.key:
            if root.right is None:
                root.right = Node(key)
                return
            root = root.right
        else:
            raise KeyError(key)


def walk(n):
    if n:
        yield from walk(n.left)
        yield n.key
        yield from walk(n.right)


def queens(n, row, cols, d1, d2):
    if row == n:
        return 1
    return sum(queens(n, row + 1, cols | {c}, d1 | {row + c}, d2 | {row - c})
               for c in range(n) if c not in cols and row + c not in d1 and row - c not in d2)


total = 0
for turn in range(int(sys.argv[1])):
    v = Vec(1, turn)
    for i in range(3000):
        v = v + Vec(i & 3, -1)
        total += v.dot(Vec(2, 3))
    root, key, dup = Node(500), turn + 1, 0
    for i in range(1200):
        key = (key * 1103515245 + 12345) % 2048
        try:
            insert(root, key)
        except KeyError:
            dup += 1
    total += sum(k * (i + 1) for i, k in enumerate(walk(root))) + dup
    total += queens(5, 0, frozenset(), frozenset(), frozenset())
    total += sum(map(lambda a: a * a % 7, range(2000)))
print(total)
