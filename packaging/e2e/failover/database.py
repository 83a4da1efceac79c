"""database.py FILE MODE STOP: transactions in SQLite until file STOP is there, then checks them all.

MODE is SQLite's journal_mode: delete (a rollback journal) or wal.
"""
import os
import sqlite3
import sys

path, mode, stop = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
got = db.execute("pragma journal_mode=" + mode).fetchone()[0]
if got != mode:
    sys.exit(f"journal_mode is {got}, not {mode}")
db.execute("pragma synchronous=full")
db.execute("create table ledger (number integer primary key, text blob)")


def text(number):
    return bytes([number % 251]) * (100 + number * 37 % 3000)


count = 0
while count < 3 or not os.path.exists(stop):
    db.execute("begin immediate")
    for _ in range(3):
        db.execute("insert into ledger values (?, ?)", (count, text(count)))
        count += 1
    db.execute("commit")
found = db.execute("select number, text from ledger order by number").fetchall()
if found != [(n, text(n)) for n in range(count)]:
    sys.exit(f"{len(found)} rows found, {count} were committed, or their texts differ")
answer = db.execute("pragma integrity_check").fetchone()[0]
if answer != "ok":
    sys.exit("integrity_check: " + answer)
db.close()
print(count, "rows")
