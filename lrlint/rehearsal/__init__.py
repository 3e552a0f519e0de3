"""The training loop, observed: a few compressed steps of the user's own script, in a process that is thrown away.

`instrument` rewrites the loops of the project's own sources, so that `loops` knows which iteration everything happens
in, and ends them early; `ledger` follows which backward passes are in each gradient; `recorder` and `patches` write
down what happens; `observe` makes torch-free facts of it; `process` runs it all beside the setup of the first step.
"""
