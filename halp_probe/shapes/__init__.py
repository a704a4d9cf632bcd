"""ShapesVQA: pictures of shapes with questions, and the small model and parts that were trained on them."""
