"""What exports hold beside weights: ONNX graphs and the script that runs them, and the handler of endpoints."""
