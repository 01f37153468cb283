"""The tools of agents: fill, generate, plan and feedback as MCP at /mcp. Imports the SDK with the first request."""
