"""What one can ask of the city: a function each, with its own transaction and its own audit entry.

Plain arguments beside the opened parts (``office``, ``city``), a frozen dataclass back. Commands,
servers and timers parse, call one, and show what came of it.

One rule for all of them (``agent.base.audit.audited``): every check, then the entry, on the disk,
then the change. The entry is written inside the transaction that makes the change, before what no
rollback takes back: its commit, a key, a file. So

- where the log cannot be written nothing is done, and whoever asked hears why;
- an act that fails after its entry has a second one, ``act.failed``, that names the first;
- a process killed between leaves an entry of something that was not done: the log may say more than
  was done, never less. Who asks again gets another entry.

What is over several stores (an erasure, a version to publish, a broker's files) has its entry
before the first of them, and is ended by asking again. What was only prepared (a version that waits
for its signature) is void until then. Enrolling and erasing are one at a time
(``TownKeys.enrolling``): what is checked is still true when it is done.
"""
