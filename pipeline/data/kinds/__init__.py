"""What a sample is: one module per kind opens its sets, makes its batches and shows them."""
