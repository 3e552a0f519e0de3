"""Running steps: does training diverge, stall or suffer at the peak rates, are they too low, and which group is at fault?"""
