"""The networks themselves: tensors in, tensors out."""
