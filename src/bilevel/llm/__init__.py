"""Language models: any OpenAI-compatible server, the embedded one, and a scripted one for tests."""
