"""What the cells of a table of one's own mean: numbers in the notations of the world, dates, gaps, categories.

Nothing is guessed in silence: what is read otherwise than as plain text or a plain number is said in a note, and what
two readings fit is refused with the key that settles it. No text that comes out of here quotes a cell.
"""
