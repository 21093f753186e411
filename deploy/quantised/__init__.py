"""INT8: static quantisation of an exported model, with ranges measured on crops."""
