"""The simulator and the scripted controllers that make training data and executed scores. Not imported by serving."""
