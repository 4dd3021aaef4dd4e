"""The ground that everything stands on: config schema, data set cards, labels and errors. Pure data, no torch."""
