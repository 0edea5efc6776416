"""How fast impasto is, measured by commands anyone can run: side by side in one run, with the spread beside it.

machine, figures                what was measured, where, and how far it scatters
clock, side_by_side             times of things that take turns, so that what else the machine does hits all alike
step, start, data, fleet ...    one thing each: what it takes -> Report
compare, page                   two reports -> what moved by more than its noise
"""
