"""Row-space search: each record by itself, in the span of the update's rows."""
