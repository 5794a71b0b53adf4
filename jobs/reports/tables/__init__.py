"""Tables 1 and 4 of Shiebler et al. 2018: every method, side by side, on several data sets."""
