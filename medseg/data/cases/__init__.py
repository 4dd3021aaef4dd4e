"""Which cases a data set has, in any layout, and what is wrong with them."""
