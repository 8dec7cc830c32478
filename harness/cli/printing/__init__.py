"""What commands print, and how; nothing here is a command.

* :mod:`lram.harness.cli.printing.output`: tables and JSON.
* :mod:`lram.harness.cli.printing.closing`: the last lines of a run or a training, and what to do next.
* :mod:`lram.harness.cli.printing.forecast`: what an evaluation would play, and what it would cost.
* :mod:`lram.harness.cli.printing.hints`: what is said of the tasks that a model knows.
* :mod:`lram.harness.cli.printing.store`: what a trajectory store holds.
* :mod:`lram.harness.cli.printing.problems`: what is wrong with data.
* :mod:`lram.harness.cli.printing.paths`: paths as the user typed them.
* :mod:`lram.harness.cli.printing.streams`: standard output and error, which show what is hidden.

Progress, which Python programs show, too, is :mod:`lram.harness.progress` and :mod:`lram.harness.waiting`.
"""
