"""The OpenAI face: completions and chat completions, mapped onto the same generations as /diffuse."""
