"""How fast a network would train on N nodes: what is measured on the ranks at hand, and a model of a step."""
