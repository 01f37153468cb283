"""Sends requests to engine processes and brings their answers: the engines as front and evolution worker see them."""
