"""What exports hold beside weights: ONNX graphs with the script that runs them, and the handler of inference endpoints."""
