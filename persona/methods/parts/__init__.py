"""Parts of merge methods: parameters, order statistics, masks, signs, coefficients, singular vectors."""
