"""How an app trains, by its own loss, optimizer or function, and claims verified by training on them again."""
