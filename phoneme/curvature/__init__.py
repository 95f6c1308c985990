"""What the error surface is like at a point, for any module and any mean loss. One stage a file:

    parameters -> probe -> objective -> hvp -> lanczos (basis, bounds)
                                        -> inertia

Pure PyTorch; the model that is looked at is left as it was found.
"""
