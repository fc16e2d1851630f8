"""What methods are made of: parameters, order statistics, masks, signs, coefficients, singular vectors."""
