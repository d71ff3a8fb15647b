"""Benchmarks: `wasmloom bench`, its suites, the peers, and what is reported.

A package of its own beside the engine, which never imports it. Imports go down here, too; from the top:

* `command`: what a command line asks for;
* `commits`, `comparison`: two runs, or two commits, against each other;
* `pages`, `page`, `charts`, `tables`: a run as Markdown, as one HTML page, as pictures, as tables;
* `suites`: one module each: what is measured;
* `context`: what a suite is given: contenders, and the time that it has;
* `peers`: who is there, and how to install those who aren't;
* `contenders`, `remote`, `native`: adapters of a few lines each;
* `workloads`, `harness`: programs with their answers; measuring in turns;
* `results`, `conditions`, `figures`: a run as data; the machine; statistics.

`sampling` stands apart: how right and how dear profiles of guests are, which nobody else has to compare with.

Drivers (``drivers``) are run in processes of their own, and ``programs`` are the sources of workloads.
"""
