"""From the measurements of a data set and of the machine to a config; pure rules, and one real step."""
