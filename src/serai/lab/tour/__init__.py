"""The tour: what Serai does, shown step by step on a lab's real guests, each claim measured."""
