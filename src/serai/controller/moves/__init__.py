"""Live migrations: who may move now, how far each move has come, and what is proven about those that are over."""
